"""A peer that stops answering: ``freeze.py server``, or ``freeze.py client TARGET``."""

from __future__ import annotations

import asyncio
import sys

import protosocket_rpc as ps
from tests.connectivity.service import SERVICE, Servicer, Stub


async def serve() -> None:
    server = ps.server()
    server.add(Servicer(Unary=hold), SERVICE)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready {port}", flush=True)
    await server.wait_for_termination()


async def hold(request: bytes, context: object) -> bytes:
    if request == b"hold":
        await asyncio.Event().wait()
    return request


async def call(target: str) -> None:
    channel = ps.insecure_channel(target)
    waiting = Stub(channel).unary(b"hold")
    await Stub(channel).unary(b"x")
    print("ready 0", flush=True)
    await waiting


asyncio.run(serve() if sys.argv[1] == "server" else call(sys.argv[2]))
