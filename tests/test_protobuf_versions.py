"""The runtime depends on no version of protobuf in particular.

Generated message code refuses a protobuf older than what generated it. So the runtime has none, and
takes of protobuf only what every version from the oldest supported one on has.
"""

from __future__ import annotations

import ast
import subprocess
import sys

from support import ROOT

# What protobuf 4.25 has, which pyproject.toml names as the oldest. The modules of google.rpc come
# with the extra `status`, and are imported where that is used.
OLD_ENOUGH = {
    "google.protobuf": {"descriptor_pool", "message_factory"},
    "google.protobuf.any_pb2": {"Any"},
    "google.protobuf.internal": {"api_implementation"},
    "google.protobuf.message": {"DecodeError", "Message"},
    "google.rpc.status_pb2": {"Status"},
}

CALLS_WITHOUT_PROTOBUF = """
import asyncio
import sys
sys.modules["google.protobuf"] = None  # importing it fails
import protosocket_rpc as ps

METHOD = ps.UnaryUnaryMethod("/test.Service/Echo", ps.BYTES, ps.BYTES)


class Servicer:
    async def Echo(self, request, context):
        return request


async def main():
    server = ps.server()
    server.add(Servicer(), ps.ServiceDescriptor("test.Service", (METHOD,)))
    server.add_insecure_port("memory:test")
    async with server, ps.insecure_channel("memory:test") as channel:
        print(await channel.method(METHOD)(b"hello"))


asyncio.run(main())
"""


def test_the_runtime_has_no_generated_message_code() -> None:
    assert not list((ROOT / "protosocket_rpc").rglob("*_pb2*"))
    for path in (ROOT / "protosocket_rpc").rglob("*.py"):
        assert "runtime_version" not in path.read_text(), path


def test_the_runtime_takes_little_of_protobuf() -> None:
    taken: dict[str, set[str]] = {}
    for path in (ROOT / "protosocket_rpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("google"):
                taken.setdefault(node.module or "", set()).update(each.name for each in node.names)
            elif isinstance(node, ast.Import):
                assert not any(each.name.startswith("google") for each in node.names), path
    assert taken == OLD_ENOUGH


def test_generated_service_code_has_no_version_check() -> None:
    paths = list((ROOT / "tests" / "codegen").rglob("*_protosocket.py"))
    assert len(paths) > 10
    for path in paths:
        assert "runtime_version" not in path.read_text(), path


def test_calls_without_protobuf() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLS_WITHOUT_PROTOBUF], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("b'hello'\n", "")
