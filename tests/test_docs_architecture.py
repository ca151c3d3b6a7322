"""docs/architecture.md names files that exist, and functions that run in the order it says."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

import protosocket_rpc
from protosocket_rpc import BYTES, ServiceDescriptor, UnaryUnaryMethod

TEXT = (ROOT / "docs" / "architecture.md").read_text()
STEPS = re.findall(r"^\| *\w* *\| `([\w/]+\.py)` \| `([\w.]+)` \|", TEXT, re.MULTILINE)

ECHO = UnaryUnaryMethod("/docs.Echo/Say", BYTES, BYTES)


class Echo:
    async def Say(self, request: bytes, context: Any) -> bytes:
        return request


def test_files_exist() -> None:
    named = set(re.findall(r"`((?:protosocket_rpc|protoc_plugin)/[\w/]*(?:\.py)?)`", TEXT))
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []
    # Those without their folder are the service layer's.
    short = set(re.findall(r"`(\w+\.py)`", TEXT))
    assert [name for name in short if not (ROOT / "protosocket_rpc/service" / name).exists()] == []


@pytest.mark.parametrize(("file", "function"), STEPS, ids=[":".join(step) for step in STEPS])
def test_functions_exist(file: str, function: str) -> None:
    body: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
    for name in function.split("."):
        (found,) = (
            node
            for node in body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and node.name == name
        )
        body = found.body


@pytest.mark.source
async def test_a_call_takes_the_steps_in_their_order() -> None:
    assert len(STEPS) > 20
    taken: list[tuple[str, str]] = []

    def note(frame: Any, event: str, argument: object) -> None:
        if event == "call":
            taken.append((frame.f_code.co_filename, frame.f_code.co_name))

    server = protosocket_rpc.server()
    server.add(Echo(), ServiceDescriptor("docs.Echo", (ECHO,)))
    port = server.add_insecure_port("127.0.0.1:0")
    async with server, protosocket_rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        say = channel.method(ECHO)
        await say(b"")  # the connection is there now
        sys.setprofile(note)
        try:
            assert await say(b"hello", timeout=5) == b"hello"
        finally:
            sys.setprofile(None)
    steps = iter(taken)
    for file, function in STEPS:
        name = function.rpartition(".")[2]
        assert any(
            Path(filename) == ROOT / file and name == co_name for filename, co_name in steps
        ), f"{function} of {file} did not run, or not in its place"
