"""The floor: the bytes of a unary call over bare uvloop connections, with no RPC at all.

The server returns what it reads. The client keeps `concurrency` frames in flight and sends one
for each that came back, from the protocol's callback: no futures, no tasks, no parsing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import cast

import uvloop

from benchmarks.client import answer, event
from benchmarks.histogram import Histogram
from benchmarks.load import Result, clock
from benchmarks.peers import asyncio_peer
from benchmarks.peers.tls import client_tls, server_tls
from benchmarks.work import Endpoint, Work

_ENVELOPE_BYTES = 13
"""What field tags, number and framing add to the text of the smallest call."""


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._write(data)


class Driver(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._done: asyncio.Future[None] | None = None

    def close(self) -> None:
        self._transport.close()

    async def run(self, size: int, concurrency: int, seconds: float) -> Result:
        self._frame = bytes(size + _ENVELOPE_BYTES)
        self._received = 0
        self._latencies: list[int] = []
        self._done = asyncio.get_running_loop().create_future()
        begin = clock()
        self._end = begin + int(seconds * 1e9)
        self._started = deque([begin] * concurrency)
        for _ in range(concurrency):
            self._transport.write(self._frame)
        await self._done
        elapsed = clock() - begin
        return Result(len(self._latencies), elapsed / 1e9, Histogram(self._latencies))

    def data_received(self, data: bytes) -> None:
        frames, self._received = divmod(self._received + len(data), len(self._frame))
        if not frames:
            return
        now = clock()
        for _ in range(frames):
            self._latencies.append(now - self._started.popleft())
        if now < self._end:
            self._started.extend([now] * frames)
            self._transport.write(self._frame * frames)
        elif not self._started:
            assert self._done is not None
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server closed"))


async def _connect(endpoint: Endpoint) -> Driver:
    loop = asyncio.get_running_loop()
    if endpoint.unix_path:
        _, driver = await loop.create_unix_connection(Driver, endpoint.unix_path)
    else:
        tls = client_tls(endpoint)
        _, driver = await loop.create_connection(Driver, endpoint.host, endpoint.port, ssl=tls)
    return driver


async def _run(drivers: list[Driver], work: Work, seconds: float) -> Result:
    share = work.concurrency // len(drivers)
    begin = clock()
    results = await asyncio.gather(*[each.run(work.size, share, seconds) for each in drivers])
    total = Result(0, (clock() - begin) / 1e9)
    for result in results:
        total.calls += result.calls
        total.latency.merge(result.latency)
    return total


def drive(endpoint: Endpoint) -> None:
    loop = uvloop.new_event_loop()

    async def perform(work: Work) -> Result:
        drivers: list[Driver] = []
        try:
            while len(drivers) < work.connections:
                drivers.append(await _connect(endpoint))
            if work.warmup:
                await _run(drivers, work, work.warmup)
            event("begin")
            result = await _run(drivers, work, work.seconds)
            event("end")
            return result
        finally:
            for driver in drivers:
                driver.close()

    answer(lambda work: loop.run_until_complete(perform(work)))


async def _listen(endpoint: Endpoint) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    if endpoint.unix_path:
        return await loop.create_unix_server(Echo, endpoint.unix_path)
    return await loop.create_server(Echo, endpoint.host, endpoint.port, ssl=server_tls(endpoint))


def serve(endpoint: Endpoint) -> None:
    asyncio_peer.serve_forever(lambda: _listen(endpoint))
