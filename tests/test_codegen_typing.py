"""What mypy and pyright, both strict, say about generated code and the programs that use it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from codegen.regenerate import CASES, HERE, ROOT, options_of

from protoc_plugin import generate

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The first run of a checker reads its stubs of the standard library.
pytestmark = [pytest.mark.timeout(300), pytest.mark.toolchain]

# What betterproto2 writes is not strict, and names that are keywords leave a .pyi without types.
_NOT_OURS = (
    "gen_betterproto2/acme/v1/__init__.py",
    "gen_betterproto2/google/protobuf/__init__.py",
    "gen_betterproto2/message_pool.py",
    "gen_names/names_pb2.pyi",
)

Mistakes = set[tuple[str, int]]


def mypy(folder: Path) -> Mistakes:
    """The file and line of each mistake in a folder."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--python-version=3.10"),
            *("--output=json", f"--cache-dir={ROOT / '.mypy_cache'}", "."),
            f"--config-file={'pyproject.toml' if (folder / 'pyproject.toml').exists() else ''}",
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"MYPYPATH": str(ROOT)},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {
        (found["file"], found["line"])
        for found in map(json.loads, done.stdout.splitlines())
        # The runtime, which is not in the folder, has a configuration of its own.
        if found["severity"] == "error" and not Path(found["file"]).is_absolute()
    }


def pyright(folder: Path) -> Mistakes:
    """The file and line of each mistake in a folder."""
    project = folder / "pyproject.toml"
    settings = tomllib.loads(project.read_text())["tool"]["pyright"] if project.exists() else {}
    (folder / "pyrightconfig.json").write_text(
        json.dumps(
            {
                "typeCheckingMode": "strict",
                "pythonVersion": "3.10",
                "extraPaths": [str(ROOT)],
                # The types of these are in the .pyi beside them.
                "exclude": ["**/*_pb2.py"],
                **settings,
            }
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {
        (
            Path(found["file"]).relative_to(folder).as_posix(),
            found["range"]["start"]["line"] + 1,
        )
        for found in json.loads(done.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    }


both = pytest.mark.parametrize("checker", [mypy, pyright])


@both
def test_programs_are_checked(checker: Callable[[Path], Mistakes], tmp_path: Path) -> None:
    shutil.copytree(HERE / "checked", tmp_path, dirs_exist_ok=True)
    assert generate.main([str(HERE / "helloworld"), "--out", str(tmp_path / "gen")]) == 0
    lines = (HERE / "checked" / "bad.py").read_text().splitlines()
    expected = {("bad.py", number) for number, line in enumerate(lines, 1) if "# mistake" in line}
    assert len(expected) > 15
    assert checker(tmp_path) == expected


@both
def test_messages_of_an_installed_package_are_typed(
    checker: Callable[[Path], Mistakes], tmp_path: Path
) -> None:
    """With the settings that the document shows."""
    document = (ROOT / "docs" / "generated-code.md").read_text()
    (block,) = re.findall(r"```toml\n(\[\[tool.mypy.*?)```", document, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(block)
    (tmp_path / "a.proto").write_text(
        'syntax = "proto3"; import "google/rpc/status.proto"; import "google/type/date.proto";'
        " message M { google.type.Date date = 1; }"
        " service S { rpc Get(google.rpc.Status) returns (google.type.Date);"
        " rpc Put(M) returns (M); }"
    )
    assert generate.main([str(tmp_path / "a.proto"), "--out", str(tmp_path / "gen")]) == 0
    (tmp_path / "user.py").write_text(
        "from google.rpc.status_pb2 import Status\n"
        "from gen.a_protosocket import SStub\n"
        "async def use(stub: SStub) -> int:\n"
        "    reply = await stub.Get(Status(code=1))\n"
        "    await stub.Put(reply)\n"
        "    return reply.year\n"
    )
    assert checker(tmp_path) == {("user.py", 5)}


@both
def test_every_case_is_typed(checker: Callable[[Path], Mistakes], tmp_path: Path) -> None:
    for case in CASES:
        words = dict(word.split("=") for word in options_of(case).split(",") if word)
        words.pop("lang", None)
        if words.pop("imports", None) or words.pop("prefix", None):
            continue  # as its modules live elsewhere than a test's folder
        arguments = [f"--{name}={value}" for name, value in words.items()]
        out = tmp_path / f"gen_{case}"
        assert generate.main([str(HERE / case), "--out", str(out), *arguments]) == 0
    found = checker(tmp_path)
    assert {each for each in found if not each[0].startswith(_NOT_OURS)} == set()
