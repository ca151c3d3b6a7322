"""``protosocket generate``: from protos to a Python package, or a check that it is up to date."""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from protoc_plugin.compiler import Inputs, ProtocError, compile_protos, find_inputs
from protoc_plugin.errors import GenerationError
from protoc_plugin.settings import Settings, read_settings

_WATCH_SECONDS = 0.5
# What generated files end with, and what one of their first lines says.
_ENDINGS = ("_pb2.py", "_pb2.pyi", "_protosocket.py")
_MARKS = ("DO NOT EDIT", "protoc cannot write types")

_DESCRIPTION = """\
Writes Python modules for .proto files: messages (NAME_pb2.py and .pyi) and services
(NAME_protosocket.py), as a package that imports without changes to sys.path. Imports are found in
the folders given, in installed packages that bring their protos (googleapis-common-protos), and
among protobuf's own. [tool.protosocket] of pyproject.toml can say all that the arguments say.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code: 1 if protoc or ``--check`` has something to say."""
    parser = _parser()
    words = parser.parse_args(arguments)
    try:
        settings = _settings(words)
        if words.watch:
            return _watch(settings)
        return _check(settings) if words.check else _generate(settings)
    except (GenerationError, ProtocError) as error:
        print(_text(error), file=sys.stderr)
        return 1


def _text(error: Exception) -> str:
    # protoc's own errors start with the file and need no introduction.
    return str(error) if isinstance(error, ProtocError) else f"protosocket generate: {error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="protosocket generate",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("protos", nargs="*", type=Path, metavar="PROTO", help="a .proto file, or a folder of them")
    add("-I", "--include", action="append", type=Path, metavar="DIR", help="where imports are")
    add("--out", type=Path, metavar="DIR", help="the folder to write to")
    add("--imports", choices=("relative", "absolute"), help="between modules (default: relative)")
    add("--prefix", metavar="PACKAGE", help="the package that absolute imports start with")
    add("--codec", metavar="NAME", help="the messages' library: protobuf (default) or bytes")
    add("--templates", type=Path, metavar="DIR", help="templates that replace or join the own ones")
    add("--clean", action="store_true", default=None, help="remove stale generated files")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="write nothing; show what would change")
    mode.add_argument("--watch", action="store_true", help="write anew whenever a proto changes")
    return parser


def _settings(words: argparse.Namespace) -> Settings:
    """The settings of pyproject.toml, with those of the command line in their place."""
    names = ("protos", "include", "out", "imports", "prefix", "codec", "templates", "clean")
    given: dict[str, Any] = {name: getattr(words, name) for name in names if getattr(words, name)}
    for name in ("protos", "include"):
        if name in given:
            given[name] = tuple(given[name])
    settings = replace(read_settings(Path.cwd()), **given)
    if not settings.protos:
        raise GenerationError("which .proto files? Name files or folders, or set 'protos'")
    if settings.out is None:
        raise GenerationError("where to? Give --out DIR, or set 'out'")
    return settings


def _generate(settings: Settings) -> int:
    out = _out(settings)
    output = _output(settings)
    for name, text in output.items():
        path = out / name
        if _read(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    for path in _stale(settings, output):
        path.unlink()
    return 0


def _check(settings: Settings) -> int:
    """Prints how the output differs from what it would be."""
    out = _out(settings)
    output = _output(settings)
    differences: list[str] = []
    for name, text in sorted(output.items()):
        differences += _diff(out / name, _read(out / name), text)
    for path in _stale(settings, output):
        differences += _diff(path, _read(path), None)
    sys.stdout.writelines(differences)
    return 1 if differences else 0


def _diff(path: Path, before: str | None, after: str | None) -> list[str]:
    if before == after:
        return []
    lines = difflib.unified_diff(
        (before or "").splitlines(keepends=True),
        (after or "").splitlines(keepends=True),
        str(path) if before is not None else "/dev/null",
        str(path) if after is not None else "/dev/null",
    )
    # A file without a line (__init__.py) gives no diff, but its absence is a difference.
    return list(lines) or [f"{path} is missing\n"]


def _watch(settings: Settings) -> int:
    """Generates again after each change to a proto, until interrupted."""
    before: dict[Path, int] = {}
    while True:
        try:
            now = _times(find_inputs(settings.protos, settings.include))
            if now != before:
                before = now
                _generate(settings)
                print(f"{time.strftime('%H:%M:%S')} written to {settings.out}", flush=True)
        except (GenerationError, ProtocError, FileNotFoundError) as error:
            print(_text(error), file=sys.stderr, flush=True)
        time.sleep(_WATCH_SECONDS)


def _times(inputs: Inputs) -> dict[Path, int]:
    """When each proto that counts was last changed."""
    protos = {proto for root in inputs.roots for proto in root.glob("**/*.proto")}
    return {proto: proto.stat().st_mtime_ns for proto in protos.union(inputs.files)}


def _out(settings: Settings) -> Path:
    assert settings.out is not None
    return settings.out


def _output(settings: Settings) -> dict[str, str]:
    """Everything to write, ``__init__.py`` of new packages included."""
    out = _out(settings)
    output = compile_protos(find_inputs(settings.protos, settings.include), settings)
    packages = {
        parent.as_posix() for name in output for parent in Path(name).parents if parent != Path()
    }
    if settings.options.imports == "relative" or settings.prefix:
        packages.add("")
    else:
        # google.protobuf is looked for there as well: a regular package would hide it.
        packages.discard("google")
    for package in sorted(packages):
        name = f"{package}/__init__.py" if package else "__init__.py"
        if not (out / name).exists():
            output[name] = ""
    return output


def _stale(settings: Settings, output: dict[str, str]) -> list[Path]:
    """Generated files of another time, if they are to be removed."""
    out = _out(settings)
    if not settings.clean:
        return []
    return [
        path
        for path in sorted(out.glob("**/*"))
        if path.name.endswith(_ENDINGS)
        and path.relative_to(out).as_posix() not in output
        and any(mark in (_read(path) or "")[:200] for mark in _MARKS)
    ]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
