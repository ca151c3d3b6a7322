"""`make test` runs on every Python of the machine, be it one or several."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAKE = shutil.which("make")
MINE = "{}.{}".format(*sys.version_info)
VERSIONS: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tox"][
    "env_list"
]


def commands(folder: Path, *pythons: str, target: str = "test-others") -> str:
    """What `make TARGET` would run where these Pythons are."""
    assert MAKE is not None
    (folder / "sh").symlink_to("/bin/sh")
    for python in pythons:
        (folder / f"python{python}").touch(mode=0o755)
    return subprocess.run(
        [MAKE, "--dry-run", f"VENV={sys.prefix}", target],
        cwd=ROOT,
        env={"PATH": str(folder), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def tox_environments(said: str) -> list[str]:
    found = re.search(r"/tox run-parallel .* -e (\S+)$", said, re.MULTILINE)
    return found[1].split(",") if found else []


def oldest(*pythons: str) -> list[str]:
    """The environment for the oldest versions of what is needed, which not every Python can run."""
    return ["oldest"] if {"3.10", "3.11"} & set(pythons) else []


def test_there_may_be_one_python_only(tmp_path: Path) -> None:
    assert tox_environments(commands(tmp_path, MINE)) == oldest(MINE)


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != MINE])
def test_every_other_python_is_found(tmp_path: Path, version: str) -> None:
    said = commands(tmp_path, MINE, version, "3.9")
    assert tox_environments(said) == [version, *oldest(MINE, version)]


def test_a_python_that_does_not_run_is_none(tmp_path: Path) -> None:
    """As a shim of pyenv's for a version that is not chosen."""
    (tmp_path / "python3.12").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.12").chmod(0o755)
    assert tox_environments(commands(tmp_path, "3.13", target="test-compiled")) == ["compiled-3.13"]


def test_what_pyenv_has_behind_its_shims_is_found(tmp_path: Path) -> None:
    behind = tmp_path / "versions" / "3.12.1" / "bin"
    behind.mkdir(parents=True)
    (behind / "python3.12").touch(mode=0o755)
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "python3.12").write_text("#!/bin/sh\nexit 127\n")
    (shims / "python3.12").chmod(0o755)
    assert tox_environments(commands(shims, target="test-compiled")) == ["compiled-3.12"]


def test_with_a_c_compiler_the_compiled_build_is_tested_too(tmp_path: Path) -> None:
    (tmp_path / "cc").touch(mode=0o755)
    said = commands(tmp_path, MINE, "3.13", "3.12", "3.11")
    others = [version for version in ("3.13", "3.12", "3.11") if version != MINE]
    assert tox_environments(said) == [*others, "compiled-3.13", "oldest"]
    assert "no C compiler" not in said


def test_without_a_c_compiler_that_is_said(tmp_path: Path) -> None:
    said = commands(tmp_path, MINE)
    assert 'echo "There is no C compiler: the compiled build is not tested."' in said


def test_the_compiled_build_is_tested_on_every_python(tmp_path: Path) -> None:
    said = commands(tmp_path, "3.12", "3.11", "3.9", target="test-compiled")
    assert tox_environments(said) == ["compiled-3.12", "compiled-3.11"]
