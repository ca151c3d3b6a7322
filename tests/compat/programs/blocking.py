"""A server whose handler blocks the event loop for as many seconds as its request says."""

from __future__ import annotations

import asyncio
import time

import grpc
from scenarios import Handlers


async def block(request, context):
    time.sleep(float(request))  # noqa: ASYNC251  # the point
    return request


async def main():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=block),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
