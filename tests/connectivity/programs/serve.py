"""A server as a program: ``serve.py PORT [GRACE]``. Tells what becomes of its handlers."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import protosocket_rpc as ps
from tests.connectivity.service import SERVICE


async def ignore_cancellation() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("ignored", flush=True)


class Servicer:
    async def Unary(self, request: bytes, context: Any) -> bytes:  # the method's name
        if request == b"hold":
            print("holding", flush=True)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)  # what cleans up takes its time
                print("cleaned up", flush=True)
        if request == b"stubborn":
            print("holding", flush=True)
            while True:
                await ignore_cancellation()
        await asyncio.sleep(float(request or b"0"))
        return request

    async def Replies(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(float(request))
            yield request

    async def Requests(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def Both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    server = ps.server()
    server.add(Servicer(), SERVICE)
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")

    async def serve() -> None:
        await server.start()
        print(f"listening on {port}", flush=True)
        await server.serve_forever(float(sys.argv[2]))
        print("ended", flush=True)

    asyncio.run(serve())


main()
