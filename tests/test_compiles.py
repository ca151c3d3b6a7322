"""The modules that run per message are ordinary Python that mypyc takes as it is."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

HOT: list[str] = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["MODULES"]

# Writes the C code, and leaves the C compiler out: what mypyc refuses, it refuses here.
TRANSLATE = "import sys; from mypyc.build import mypycify; print(len(mypycify(sys.argv[1:])))"


@pytest.mark.toolchain
@pytest.mark.timeout(120)
def test_mypyc_takes_the_modules_that_run_per_message(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "protosocket_rpc", tmp_path / "protosocket_rpc")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # mypy's settings
    files = [f"protosocket_rpc/{name}.py" for name in HOT]
    done = subprocess.run(
        [sys.executable, "-c", TRANSLATE, *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == str(len(files) + 1)  # a module each, and what they share
