"""thriftpy2's asyncio client and server. A connection carries one call at a time, so there is one
for each call in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import thriftpy2
import uvloop
from thriftpy2.contrib.aio.rpc import make_client, make_server

from benchmarks.load import Unary
from benchmarks.peers import asyncio_peer
from benchmarks.peers.messages import burn, echo_request
from benchmarks.peers.tls import client_tls, server_tls
from benchmarks.work import Endpoint, Work

_SCHEMA = thriftpy2.load(
    str(Path(__file__).parent.parent / "proto" / "echo.thrift"), module_name="echo_thrift"
)


class Bench:
    async def unary(self, request: Any) -> Any:
        return request

    async def hold(self, request: Any) -> Any:
        await asyncio.sleep(request.number / 1000)
        return request

    async def burn(self, request: Any) -> Any:
        await asyncio.get_running_loop().run_in_executor(None, burn, request.number)
        return request


class Client:
    """A pool of connections, as many as there ever were calls in flight."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._idle: list[Any] = []

    async def close(self) -> None:
        for client in self._idle:
            client.close()

    def unary(self, method: str, work: Work) -> Unary:
        name = method.lower()

        async def invoke(request: Any) -> Any:
            client = self._idle.pop() if self._idle else await self.open()
            reply = await getattr(client, name)(request)
            self._idle.append(client)
            return reply

        request: Callable[[int], Any] = echo_request(_SCHEMA.Echo, work)
        return Unary(request, invoke)

    async def open(self) -> Any:
        endpoint = self._endpoint
        if endpoint.unix_path:
            return await make_client(_SCHEMA.Bench, unix_socket=endpoint.unix_path, timeout=None)
        return await make_client(
            _SCHEMA.Bench,
            endpoint.host,
            endpoint.port,
            timeout=None,
            ssl_context=client_tls(endpoint),
        )


async def connect(endpoint: Endpoint) -> Client:
    return Client(endpoint)


def drive(endpoint: Endpoint) -> None:
    asyncio_peer.drive(connect, endpoint)


def serve(endpoint: Endpoint) -> None:
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    if endpoint.unix_path:
        where: dict[str, Any] = {"unix_socket": endpoint.unix_path}
    else:
        where = {"host": endpoint.host, "port": endpoint.port}
    # By default the server drops a connection after three seconds, whatever it does.
    make_server(
        _SCHEMA.Bench,
        Bench(),
        client_timeout=None,
        ssl_context=server_tls(endpoint),
        loop=loop,
        **where,
    ).serve()
