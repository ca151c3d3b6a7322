"""gRPC's base interop cases: over the compat import the same results as of grpcio."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Certificates

HERE = Path(__file__).parent
RUN = ROOT / "tests" / "compat" / "programs" / "run.py"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated")
    options = (f"-I{HERE}", f"--python_out={out}", f"--grpc_python_out={out}")
    command = [sys.executable, "-m", "grpc_tools.protoc", *options, str(HERE / "interop.proto")]
    subprocess.run(command, check=True)
    return out


def results(mode: str, generated: Path, *arguments: str | Path) -> dict[str, Any]:
    path = os.pathsep.join((str(generated), str(ROOT)))
    done = subprocess.run(
        [sys.executable, str(RUN), mode, str(HERE / "cases.py"), *arguments],
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def expected(generated: Path) -> dict[str, Any]:
    return results("grpcio", generated, "127.0.0.1:0")


@pytest.mark.parametrize("kind", ["tcp", "unix", "memory"])
def test_same_as_grpcio(
    kind: str, expected: dict[str, Any], generated: Path, socket_dir: Path
) -> None:
    target = {"tcp": "127.0.0.1:0", "unix": f"unix:{socket_dir}/socket", "memory": "memory:cases"}
    assert len(expected) == 14
    assert results("import", generated, target[kind]) == expected


def test_same_as_grpcio_with_tls(
    expected: dict[str, Any], generated: Path, certificates: Certificates
) -> None:
    files = (certificates.authority, certificates.server_chain, certificates.server_key)
    for mode in ("grpcio", "import"):
        assert results(mode, generated, "localhost:0", *files) == expected
