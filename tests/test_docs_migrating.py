"""The programs of docs/migrating.md do what they say: before, after, both ways, falling back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ROOT, code_block

DOC = (ROOT / "docs" / "migrating.md").read_text()
OUTPUT = """\
apples: 2
counted for ada
StatusCode.NOT_FOUND no pear, nobody
[2, 1, 0]
in all: 4
"""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The program for `grpc.aio`, with what grpcio-tools generates."""
    for name in ("inventory.proto", "server.py", "client.py", "both.py", "fallback.py"):
        (tmp_path / name).write_text(code_block(DOC, f"`{name}`"))
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I."),
            *("--python_out=.", "--grpc_python_out=.", "inventory.proto"),
        ],
        cwd=tmp_path,
        check=True,
    )
    return tmp_path


def change_imports(directory: Path) -> None:
    folders = [str(Path(sys.executable).parent), *os.get_exec_path()]  # where `python` is this one
    subprocess.run(
        code_block(DOC, "What changes in both"),
        shell=True,
        cwd=directory,
        env=os.environ | {"PATH": os.pathsep.join(folders)},
        check=True,
    )


def python(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[list[str]]:
    """A server as a process; the targets that it listens at."""
    with python(directory, *arguments) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("listening on port"), line
            yield [f"127.0.0.1:{port}" for port in re.findall(r"\d+", line)]
            server.terminate()
            assert server.wait(30) == 0
        finally:
            server.kill()


def output(directory: Path, *arguments: str) -> str:
    with python(directory, *arguments) as program:
        try:
            said, _ = program.communicate(timeout=30)
        finally:
            program.kill()
    assert program.returncode == 0
    return said


def run(directory: Path, *server: str) -> str:
    with serving(directory, *(server or ("server.py",)), "127.0.0.1:0") as (target,):
        return output(directory, "client.py", target)


def test_before_and_after(before: Path) -> None:
    assert run(before) == OUTPUT
    change_imports(before)
    for name in ("server.py", "client.py", "inventory_pb2_grpc.py"):
        text = (before / name).read_text()
        assert "protosocket_rpc.compat" in text
        assert not re.search(r"^\s*(import|from) grpc\b", text, re.MULTILINE)
    assert run(before) == OUTPUT


CHANGED = {
    "import grpc": "from protosocket_rpc.compat import grpc",
    "import grpc  # type: ignore": "from protosocket_rpc.compat import grpc  # type: ignore",
    "import grpc as g": "from protosocket_rpc.compat import grpc as g",
    "if True:\n    import grpc": "if True:\n    from protosocket_rpc.compat import grpc",
    "from grpc import aio": "from protosocket_rpc.compat.grpc import aio",
    "from grpc.aio import Channel": "from protosocket_rpc.compat.grpc.aio import Channel",
    "from grpc.experimental import aio": "from protosocket_rpc.compat.grpc.experimental import aio",
}
BY_HAND = re.findall(r"`((?:import|from) [\w.]+)` becomes\s`(.+?)`", DOC)


def test_every_form_of_an_import(tmp_path: Path) -> None:
    assert [before for before, _ in BY_HAND] == ["import grpc.aio", "from grpc_status"]
    kept = ["import grpc.aio", "from grpc_status import rpc_status", "import grpc, os"]
    for name in ("client.py", "inventory_pb2_grpc.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "server.py").write_text("\n".join([*CHANGED, *kept]))
    change_imports(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["client.py", "inventory_pb2_grpc.py", "server.py"]
    text = (tmp_path / "server.py").read_text()
    assert text == "\n".join([*CHANGED.values(), *kept])
    for line, becomes in BY_HAND:
        text = text.replace(line, becomes)
    imported: dict[str, object] = {}
    exec(text.removesuffix(kept[-1]), imported)
    del imported["__builtins__"]
    assert list(imported) == ["grpc", "g", "aio", "Channel", "rpc_status"]
    assert all("protosocket_rpc" in repr(each) for each in imported.values())


def test_where_imports_cannot_be_changed(before: Path) -> None:
    switched = code_block(DOC, "### Where imports cannot be changed")
    (before / "switched.py").write_text(switched)
    client = (before / "client.py").read_text()
    (before / "client.py").write_text(switched[: switched.index("import server")] + client)
    assert run(before, "switched.py") == OUTPUT


@pytest.fixture
def both(before: Path) -> Path:
    """Servicers for grpcio, and stubs for either."""
    changed = before / "changed"
    changed.mkdir()
    for name in ("server.py", "client.py", "inventory_pb2_grpc.py"):
        shutil.copy(before / name, changed)
    change_imports(changed)
    shutil.copy(changed / "inventory_pb2_grpc.py", before / "inventory_changed_pb2_grpc.py")
    return before


def test_serve_both_and_fall_back(both: Path) -> None:
    with serving(both, "both.py", "127.0.0.1:0", "127.0.0.1:0") as (target, grpc_target):
        expected = "apples: 2\nStatusCode.NOT_FOUND no pear\nover protosocket: "
        assert output(both, "fallback.py", target, grpc_target) == expected + "True\n"
        # Something else than protosocket answers there.
        assert output(both, "fallback.py", grpc_target, grpc_target) == expected + "False\n"
