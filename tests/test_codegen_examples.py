"""The examples do what they say, by the commands that their README gives."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from codegen.regenerate import ROOT

README = (ROOT / "examples" / "codegen" / "README.md").read_text()
COMMANDS = {
    Path(block.split()[-1]).parent.name: block.strip().split("\n")
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
}
OUTPUT = {
    "betterproto2": "GreetReply(text='Hello, Ada!')\nHello, Bob!\nHallo, Bob!\nBonjour, Bob!\n",
    "bytes": "Hello, Ada!\nHello, Bob!\nHallo, Bob!\n",
    "templates": "Hello!\nHello!\nHallo!\nGreet was asked by ['Ada']\n"
    "GreetInEveryLanguage was asked by ['Bob']\nGreetAll was asked by []\n",
}


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A folder with the examples, as they are in the repository."""
    shutil.copytree(
        ROOT / "examples" / "codegen",
        tmp_path / "examples" / "codegen",
        ignore=shutil.ignore_patterns("generated", "__pycache__", "build", "*.egg-info"),
    )
    return tmp_path


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


@pytest.mark.parametrize("name", OUTPUT)
def test_a_codec_or_a_template(name: str, examples: Path) -> None:
    generate, run = (line.split() for line in COMMANDS[name])
    assert generate[:2] == ["protosocket", "generate"]
    assert run[0] == "python"
    for command in (["-m", "protoc_plugin.cli", *generate[1:]], run[1:]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=examples,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == OUTPUT[name]


def test_buf_runs_protoc_and_the_plugin(examples: Path, tmp_path: Path) -> None:
    folder = examples / "examples" / "codegen" / "buf"
    programs = sysconfig.get_path("scripts")
    done = subprocess.run(
        [Path(programs) / "buf", "generate"],
        cwd=folder,
        env=environment()
        | {
            "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
            "BUF_CACHE_DIR": str(tmp_path / "cache"),
        },
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from greeter.v1.greeter_protosocket import GREETER; print(GREETER.name)",
        ],
        cwd=folder / "generated",
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "greeter.v1.Greeter\n"


@pytest.mark.parametrize("backend", ["hatchling", "setuptools"])
def test_a_package_generates_when_it_is_built(backend: str, examples: Path, tmp_path: Path) -> None:
    folder = examples / "examples" / "codegen" / backend
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "."),
            *("--no-deps", "--no-build-isolation", "-w", tmp_path),
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "from greeter_app import GREETER; print(GREETER.name)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "greeter.v1.Greeter\n"


def test_the_template_has_the_lines_that_are_told_of() -> None:
    (template,) = (ROOT / "examples/codegen/templates/templates").iterdir()
    lines = template.read_text().count("\n")
    assert lines <= 30
    for name in ("README.md", "templates/main.py", "../../docs/templates.md"):
        text = (ROOT / "examples" / "codegen" / name).read_text()
        assert re.findall(r"of (\d+) lines", text) == [str(lines)], name
