"""A program that has set up no logging sees nothing of this package on its terminal."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from support import ROOT, complaints

# What is logged, as a warning or worse: a handler that fails, a peer that talks nonsense. And what
# is not: a method and a server that are not there, a call that is dropped.
PROGRAM = """
import asyncio
import sys
sys.path.insert(0, {tests!r})

from connectivity.service import SERVICE, Servicer, Stub
import protosocket_rpc as ps


async def fail(request, context):
    raise ValueError("of the handler")


async def replies(request, context):
    yield b"x"
    raise ValueError("of the handler")


async def outcome(call):
    try:
        return await call
    except ps.AioRpcError as error:
        return error.code().name


async def main():
    server = ps.server()
    server.add(Servicer(Unary=fail, Replies=replies), SERVICE)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with ps.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        stub = Stub(channel)
        assert await outcome(stub.unary(b"x")) == "UNKNOWN"
        assert await outcome(channel.unary_unary("/no/method")(b"")) == "UNIMPLEMENTED"
        call = stub.replies(b"x")
        assert await call.read() == b"x"
        assert await outcome(call.read()) == "UNKNOWN"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\\xff" * 16)
        await reader.read()
        writer.close()
        dropped = stub.both()
        del dropped
    await server.stop()
    async with ps.insecure_channel(f"127.0.0.1:{{port}}") as channel:
        assert await outcome(Stub(channel).unary(b"x")) == "UNAVAILABLE"


asyncio.run(main())
"""


@pytest.mark.parametrize("logs", [False, True], ids=["without logging", "with logging"])
def test_nothing_is_written_that_nobody_asked_for(logs: bool) -> None:
    program = PROGRAM.format(tests=str(ROOT / "tests"))
    if logs:
        program = f"import logging\nlogging.basicConfig()\n{program}"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert ("of the handler" in done.stderr) is logs
    assert bool(complaints(done.stderr)) is logs


def test_loggers_are_those_of_the_standard_library() -> None:
    (handler,) = logging.getLogger("protosocket_rpc").handlers
    assert type(handler) is logging.NullHandler
