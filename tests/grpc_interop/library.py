"""The libraries that the cases run with, and the code that each has generated for them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.compat.programs.run import changed

LIBRARIES = ("native", "compat", "grpcio")

_HERE = Path(__file__).parent
_PACKAGE = "interop_stubs"


@dataclass(frozen=True)
class Library:
    """What a library calls things by.

    Attributes:
        grpc: has credentials, status codes and compressions.
        aio: has channels, servers, `EOF` and `AioRpcError`.
        pb: the messages, the same for all.
        services: stubs and servicers.
        add: called with a servicer and the server to add it to.
        shortest_timeout: seconds that a call with requests may be given.
    """

    grpc: Any
    aio: Any
    pb: Any
    services: Any
    add: Callable[[Any, Any], object]
    shortest_timeout: float = 0.001


def generate(directory: Path) -> None:
    """Write the generated code of all libraries, to be imported from `directory`."""
    package = directory / _PACKAGE
    protoc = ("grpc_tools.protoc", f"-I{_HERE}", f"--grpc_python_out={directory}")
    for command in (("protoc_plugin.cli", "generate", f"--out={package}"), protoc):
        subprocess.run([sys.executable, "-m", *command, str(_HERE / "interop.proto")], check=True)
    written = (directory / "interop_pb2_grpc.py").read_text()
    written = re.sub(r"^(import interop_pb2)", rf"from {_PACKAGE} \1", written, flags=re.MULTILINE)
    (package / "for_grpcio.py").write_text(written)
    (package / "for_compat.py").write_text(changed(written))


def load(name: str) -> Library:
    """One of `LIBRARIES`; what `generate` wrote is on ``sys.path``."""
    pb = import_module(f"{_PACKAGE}.interop_pb2")
    if name == "native":
        ps = import_module("protosocket_rpc")
        services = import_module(f"{_PACKAGE}.interop_protosocket")
        return Library(ps, ps, pb, services, lambda servicer, server: server.add(servicer))
    grpc = import_module("protosocket_rpc.compat.grpc" if name == "compat" else "grpc")
    services = import_module(f"{_PACKAGE}.for_{name}")
    add = services.add_TestServiceServicer_to_server
    # grpcio's calls end with INTERNAL if a request is written when the time is over already.
    timeout = 2 if name == "grpcio" else 0.001
    return Library(grpc, import_module(f"{grpc.__name__}.aio"), pb, services, add, timeout)
