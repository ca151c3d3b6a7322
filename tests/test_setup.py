"""An installation from source has the accelerator, is without it, or fails: as it was asked to.

That it has the accelerator if nothing is said, and works, is what the compiled builds of
pyproject.toml's tox environments are for: all tests run on what they have installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.source

NO_COMPILER = {"CC": "false"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in a folder of its own: builds write beside it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("protoc_plugin", "protosocket_rpc", "templates", "proto"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def wheel(clone: Path, out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    return subprocess.run(
        [*pip, "--no-build-isolation", "-w", out, clone],
        env={**os.environ, "PROTOSOCKET_ACCELERATE": "", **env},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "env", [NO_COMPILER, {"PROTOSOCKET_ACCELERATE": "0"}], ids=["no compiler", "refused"]
)
def test_it_is_pure_python(env: dict[str, str], clone: Path, tmp_path: Path) -> None:
    done = wheel(clone, tmp_path, **env)
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.iterdir()
    assert built.name.endswith("-py3-none-any.whl")


def test_who_insists_is_told_what_is_missing(clone: Path, tmp_path: Path) -> None:
    done = wheel(clone, tmp_path, **NO_COMPILER, PROTOSOCKET_ACCELERATE="1")
    assert done.returncode != 0
    assert "PROTOSOCKET_ACCELERATE=1 needs CPython, its headers, and a C compiler" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_value_is_refused(clone: Path, tmp_path: Path) -> None:
    done = wheel(clone, tmp_path, PROTOSOCKET_ACCELERATE="yes")
    assert done.returncode != 0
    assert "PROTOSOCKET_ACCELERATE must be 0 or 1, not 'yes'" in done.stderr
