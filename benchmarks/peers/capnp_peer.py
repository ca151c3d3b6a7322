"""pycapnp: the same calls in a schema of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import capnp

from benchmarks import load
from benchmarks.client import answer, event
from benchmarks.load import Unary
from benchmarks.peers.messages import burn, payload
from benchmarks.peers.tls import client_tls, server_tls
from benchmarks.work import TEXT, Endpoint, Work

_SCHEMA: Any = capnp.load(str(Path(__file__).parent.parent / "proto" / "echo.capnp"))
_NO_LIMIT = 1 << 60


class Bench(_SCHEMA.Bench.Server):
    async def unary(self, text: str, number: int, payload: bytes, **_: Any) -> Any:
        return text, number, payload

    async def hold(self, text: str, number: int, payload: bytes, **_: Any) -> Any:
        await asyncio.sleep(number / 1000)
        return text, number, payload

    async def burn(self, text: str, number: int, payload: bytes, **_: Any) -> Any:
        await asyncio.get_running_loop().run_in_executor(None, burn, number)
        return text, number, payload


class Client:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._client = capnp.TwoPartyClient(stream, traversal_limit_in_words=_NO_LIMIT)
        self._bench = self._client.bootstrap().cast_as(_SCHEMA.Bench)

    async def close(self) -> None:
        self._client.close()

    def unary(self, method: str, work: Work) -> Unary:
        call: Callable[..., Any] = getattr(self._bench, method.lower())
        if work.size == len(TEXT):
            return Unary(int, lambda number: call(TEXT, number))
        body = payload(work.size)
        return Unary(int, lambda number: call("", number, body))


async def connect(endpoint: Endpoint) -> Client:
    if endpoint.unix_path:
        stream = await capnp.AsyncIoStream.create_unix_connection(path=endpoint.unix_path)
    else:
        stream = await capnp.AsyncIoStream.create_connection(
            host=endpoint.host, port=endpoint.port, ssl=client_tls(endpoint)
        )
    return Client(stream)


def drive(endpoint: Endpoint) -> None:
    async def perform(work: Work) -> load.Result:
        async with capnp.kj_loop():
            return await load.measure(work, partial(connect, endpoint), event)

    loop = asyncio.new_event_loop()
    answer(lambda work: loop.run_until_complete(perform(work)))


async def _listen(endpoint: Endpoint) -> None:
    async def serve_connection(stream: Any) -> None:
        server = capnp.TwoPartyServer(stream, bootstrap=Bench(), traversal_limit_in_words=_NO_LIMIT)
        await server.on_disconnect()

    if endpoint.unix_path:
        server = await capnp.AsyncIoStream.create_unix_server(
            serve_connection, path=endpoint.unix_path
        )
    else:
        server = await capnp.AsyncIoStream.create_server(
            serve_connection, endpoint.host, endpoint.port, ssl=server_tls(endpoint)
        )
    async with server:
        await server.serve_forever()


def serve(endpoint: Endpoint) -> None:
    asyncio.run(capnp.run(_listen(endpoint)))
