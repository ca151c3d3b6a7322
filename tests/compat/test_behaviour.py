"""What users of ``grpc.aio`` rely on: the same program sees the same of grpcio and of ours."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

HERE = Path(__file__).parent


def names() -> list[str]:
    """The coroutine functions without parameters: the scenarios."""
    return [
        node.name
        for module in sorted((HERE / "scenarios").glob("[!_]*.py"))
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef) and not ast.unparse(node.args)
    ]


def run(library: str) -> dict[str, Any]:
    process = subprocess.run(
        [sys.executable, "-m", "scenarios", library],
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    if library == "compat":
        assert process.stderr == ""  # pain 13: nothing that nobody asked for
    results: dict[str, Any] = json.loads(process.stdout)
    return results


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    with ThreadPoolExecutor() as pool:
        grpcio, compat = pool.map(run, ("grpcio", "compat"))
    return {"grpcio": grpcio, "compat": compat}


@pytest.mark.parametrize("name", names())
def test_same_as_grpcio(name: str, results: dict[str, dict[str, Any]]) -> None:
    expected = results["grpcio"][name]
    assert not str(expected).startswith("the scenario failed"), "grpcio itself does not do this"
    assert results["compat"][name] == expected
