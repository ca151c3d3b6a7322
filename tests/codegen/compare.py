"""What other projects write for the proto of docs/generated-code.md, and the table there.

``python -m codegen.compare``, run in ``tests/``, installs each project's newest release into an
environment of its own, and writes ``compared/out/`` anew: the module with the services of each, and
what else was measured, in measured.json. Then it prints the table that the document is to have.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codegen.regenerate import HERE, ROOT

OUT = HERE / "compared" / "out"
MEASURED = OUT / "measured.json"
PROTOS = ROOT / "examples" / "codegen" / "protos"
PROTO = "greeter/v1/greeter.proto"
COMMENTS = [line.strip("/ ") for line in (PROTOS / PROTO).read_text().split("\n") if "//" in line]


@dataclass(frozen=True)
class Project:
    """Whose code it is, how protoc writes it, and which of the modules has the services."""

    name: str
    packages: tuple[str, ...]
    protoc: tuple[str, ...]
    module: str


PROJECTS = (
    Project(
        "grpcio-tools",
        ("grpcio-tools",),
        ("--python_out=.", "--pyi_out=.", "--grpc_python_out=."),
        "greeter_pb2_grpc.py",
    ),
    Project(
        "grpclib",
        ("grpclib", "grpcio-tools"),
        ("--python_out=.", "--pyi_out=.", "--grpclib_python_out=."),
        "greeter_grpc.py",
    ),
    Project(
        "betterproto2",
        ("betterproto2-compiler", "betterproto2", "grpclib", "grpcio-tools"),
        (
            "--python_betterproto2_out=.",
            "--python_betterproto2_opt=client_generation=async",
            "--python_betterproto2_opt=server_generation=async",
        ),
        "__init__.py",
    ),
    Project(
        "connectrpc",
        ("protoc-gen-connectrpc", "protoc-gen-py", "connectrpc", "grpcio-tools"),
        ("--py_out=.", "--connectrpc_out=."),
        "greeter_connect.py",
    ),
)


def table(own: str) -> Iterator[str]:
    """The lines of the table, of what is committed and the text that this project writes."""
    yield "| | lines | `mypy --strict` | comments shown | imports its messages | a unary call is |"
    yield "|---|---|---|---|---|---|"
    yield _row("this", own, 0)
    measured = json.loads(MEASURED.read_text())
    for project in PROJECTS:
        found = measured[project.name]
        text = (OUT / f"{project.name}.py.txt").read_text()
        yield _row(f"{project.name} {found['version']}", text, found["errors"])


def _row(name: str, text: str, errors: int) -> str:
    typed = f"{errors} errors" if errors else "passes"
    tree = ast.parse(text)
    cells = (name, _lines(text), typed, _comments(tree), _imports(tree), _unary(tree))
    return f"| {' | '.join(map(str, cells))} |"


def _lines(text: str) -> int:
    """How many lines there are, without messages: one project has them in the same file."""
    return re.sub(r"@dataclass\(.*?(?=^class Greeter)", "", text, flags=re.M | re.S).count("\n")


def _comments(tree: ast.Module) -> int:
    """How many docstrings show a comment of the proto's."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return sum(any(comment in doc for comment in COMMENTS) for doc in docs)


def _imports(tree: ast.Module) -> str:
    for node in tree.body:
        if isinstance(node, ast.Import) and "greeter" in node.names[0].name:
            return "absolute"
        if isinstance(node, ast.ImportFrom):
            words = f"{node.module} {node.names[0].name}"
            if "greeter" in words:
                return "relative" if node.level else "absolute"
    return "same file"


def _unary(tree: ast.Module) -> str:
    """What the stub's method of the unary RPC is."""
    (stub,) = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and re.fullmatch("Greeter(Async)?(Stub|Client)", node.name)
    ]
    for node in stub.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.lower() == "greet":
            return "a coroutine function"
        if isinstance(node, ast.FunctionDef) and node.name.lower() == "greet":
            return "a function"
    return "an attribute"


def regenerate() -> None:
    """Writes ``compared/out/`` anew."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        measured = {each.name: _generate(each, Path(folder) / each.name) for each in PROJECTS}
    MEASURED.write_text(json.dumps(measured, indent=2) + "\n")


def _generate(project: Project, folder: Path) -> dict[str, str | int]:
    """Writes the module of one project; returns its version and how many errors mypy finds."""
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    programs = folder / "venv" / "bin"
    out = folder / "out"
    out.mkdir()

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [programs / "python", "-m", *arguments],
            cwd=out,
            env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    # What goes wrong in one of these is on stderr, and leaves no module to copy.
    python("pip", "install", "-q", "mypy", "types-protobuf", *project.packages)
    python("grpc_tools.protoc", f"-I{PROTOS}", *project.protoc, PROTO)
    module = out / Path(PROTO).parent / project.module
    shutil.copy(module, OUT / f"{project.name}.py.txt")
    lines = python("mypy", "--strict", "--explicit-package-bases", "--output=json", ".")
    errors = [
        each
        for each in map(json.loads, lines.splitlines())
        if each["severity"] == "error"
        and Path(each["file"]).name == module.name
        and each["code"] != "import-not-found"  # of a package around it, which is not there
    ]
    version = python("pip", "show", project.packages[0]).split("Version: ")[1].split()[0]
    return {"version": version, "errors": len(errors)}


if __name__ == "__main__":
    from protoc_plugin import generate

    regenerate()
    with tempfile.TemporaryDirectory() as target:
        generate.main([str(PROTOS), "--out", target])
        name = PROTO.replace(".proto", "_protosocket.py")
        print(*table((Path(target) / name).read_text()), sep="\n")
