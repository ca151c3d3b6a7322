"""Imports go one way, from layer to layer as listed. What runs per message does no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

PACKAGE = ROOT / "protosocket_rpc"

# Each may import itself and what stands before it.
LAYERS = ["raw", "rpc", "wire", "service", "workers", "compat", "testing"]

# Modules of the package itself that every layer may import, and that import no layer.
COMMON = ["adopter", "eager", "errors", "forks", "metadata", "native", "per_loop", "status"]

# Sans-I/O: fed with bytes or messages, and compiled as they are.
SANS_IO = [
    "errors.py",
    "metadata.py",
    "status.py",
    "raw/codec.py",
    "raw/codecs/*.py",
    "raw/connection.py",
    "raw/limits.py",
    "raw/polled.py",
    "raw/reactor.py",
    "raw/unfinished.py",
    "raw/varint.py",
    "rpc/client_session.py",
    "rpc/codec.py",
    "rpc/early_cancels.py",
    "rpc/message.py",
    "rpc/own_session.py",
    "rpc/server_session.py",
    "rpc/session.py",
    "service/client_session.py",
    "service/flow.py",
    "service/limits.py",
    "service/rpc.py",
    "service/server_session.py",
    "service/session.py",
    "wire/*.py",
]
IO = {"asyncio", "logging", "selectors", "socket", "ssl", "threading", "time", "uvloop"}


def imports_in(source: bytes, package: list[str]) -> Iterator[str]:
    """The absolute names of all modules that a module of `package` imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            for alias in node.names:  # any of them may be a module
                yield f"{module}.{alias.name}"


def imports(path: Path) -> Iterator[str]:
    return imports_in(path.read_bytes(), list(path.parent.relative_to(ROOT).parts))


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.source
def test_every_module_has_its_place() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(LAYERS)
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__", "__main__", "build", *COMMON}


@pytest.mark.parametrize("layer", [*LAYERS, *COMMON])
def test_nothing_imports_what_stands_above_it(layer: str) -> None:
    allowed = LAYERS[: LAYERS.index(layer) + 1] if layer in LAYERS else []
    above = [name for name in LAYERS if name not in allowed]
    paths = files(PACKAGE / layer) if layer in LAYERS else [PACKAGE / f"{layer}.py"]
    assert paths
    wrong = [
        f"{relative(path)} imports {name}"
        for path in paths
        for name in imports(path)
        if name.split(".")[:2] in [["protosocket_rpc", layer] for layer in above]
    ]
    assert not wrong


def test_no_layer_imports_the_package_s_public_names() -> None:
    """They are for users: importing them from below would go round in a circle."""
    known = {"", "build", "_built", *LAYERS, *COMMON}
    wrong = [
        f"{relative(path)} imports {name}"
        for path in files(PACKAGE)
        if path != PACKAGE / "__init__.py"
        for name in imports(path)
        if name.partition(".")[0] == "protosocket_rpc" and f"{name}.".split(".")[1] not in known
    ]
    assert not wrong


def test_the_plugin_does_not_import_the_runtime() -> None:
    wrong = [
        f"{relative(path)} imports {name}"
        for path in files(ROOT / "protoc_plugin")
        for name in imports(path)
        if name.split(".")[0] == "protosocket_rpc"
    ]
    assert not wrong


@pytest.mark.parametrize("pattern", SANS_IO)
def test_what_runs_per_message_does_no_io(pattern: str) -> None:
    paths = sorted(PACKAGE.glob(pattern))
    assert paths
    wrong = [
        f"{relative(path)} imports {name}"
        for path in paths
        for name in imports(path)
        if name.split(".")[0] in IO
    ]
    assert not wrong


def test_imports_of_every_form_are_seen() -> None:
    source = b"""
from .. import service
from ..rpc import session
from . import codec
def later():
    import asyncio.sslproto, ssl as tls
    from logging import getLogger
"""
    assert set(imports_in(source, ["protosocket_rpc", "raw"])) == {
        "protosocket_rpc",
        "protosocket_rpc.service",
        "protosocket_rpc.rpc",
        "protosocket_rpc.rpc.session",
        "protosocket_rpc.raw",
        "protosocket_rpc.raw.codec",
        "asyncio.sslproto",
        "ssl",
        "logging",
        "logging.getLogger",
    }
