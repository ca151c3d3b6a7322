"""connect-py: the client, and the application that granian and pyvoy serve.

Compression is off, as in every other peer; the messages are those of protobuf-py, its default.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from connect_stubs.echo_connect import Bench, BenchASGIApplication, BenchClient
from connect_stubs.echo_pb import Echo, Flow
from pyqwest import Client as HttpClient
from pyqwest import HTTPTransport, HTTPVersion

from benchmarks.load import Unary
from benchmarks.peers import asyncio_peer
from benchmarks.peers.messages import burn, echo_request, payload
from benchmarks.work import DEADLINE_SECONDS, METADATA, Endpoint, Work


class Servicer(Bench):
    async def unary(self, request: Any, ctx: Any) -> Any:
        return request

    async def hold(self, request: Any, ctx: Any) -> Any:
        await asyncio.sleep(request.number / 1000)
        return request

    async def burn(self, request: Any, ctx: Any) -> Any:
        await asyncio.get_running_loop().run_in_executor(None, burn, request.number)
        return request

    async def server_stream(self, request: Any, ctx: Any) -> AsyncIterator[Any]:
        message = Echo(payload=payload(request.size))
        for _ in range(request.count):
            yield message

    async def client_stream(self, request: AsyncIterator[Any], ctx: Any) -> Any:
        count = 0
        async for _ in request:
            count += 1
        return Echo(number=count)

    async def bidi_stream(self, request: AsyncIterator[Any], ctx: Any) -> AsyncIterator[Any]:
        async for message in request:
            yield message


class PassOn:
    async def intercept_unary(
        self, call_next: Callable[[Any, Any], Awaitable[Any]], request: Any, ctx: Any
    ) -> Any:
        return await call_next(request, ctx)


def _application(interceptors: list[PassOn]) -> BenchASGIApplication:
    return BenchASGIApplication(
        Servicer(), interceptors=interceptors, read_max_bytes=None, compressions=()
    )


application = _application([])
intercepted = _application([PassOn()])


def application_name(endpoint: Endpoint) -> str:
    name = "intercepted" if endpoint.interceptor == "server" else "application"
    return f"{__name__}:{name}"


class Client:
    """One HTTP/2 connection."""

    def __init__(self, transport: HTTPTransport, client: BenchClient) -> None:
        self._transport = transport
        self._client = client

    async def close(self) -> None:
        await self._client.close()
        await self._transport.aclose()

    def unary(self, method: str, work: Work) -> Unary:
        call = getattr(self._client, method.lower())
        headers = dict(METADATA) if work.metadata else None
        timeout = DEADLINE_SECONDS * 1000 if work.deadline else None
        request = echo_request(Echo, work)
        if headers is None and timeout is None:
            return Unary(request, call)
        return Unary(request, lambda message: call(message, headers=headers, timeout_ms=timeout))

    async def server_stream(self, count: int, size: int) -> int:
        received = 0
        async for _ in self._client.server_stream(Flow(count=count, size=size)):
            received += 1
        return received

    async def client_stream(self, count: int, size: int) -> int:
        answer = await self._client.client_stream(_messages(count, size))
        number: int = answer.number
        return number

    async def bidi(self, count: int, size: int) -> int:
        received = 0
        async for _ in self._client.bidi_stream(_messages(count, size)):
            received += 1
        return received

    async def ping_pong(self, size: int, lap: Callable[[], bool]) -> None:
        message = Echo(payload=payload(size))
        echoed = asyncio.Semaphore()

        async def requests() -> AsyncIterator[Any]:
            await echoed.acquire()
            while lap():
                yield message
                await echoed.acquire()

        async for _ in self._client.bidi_stream(requests()):
            echoed.release()


async def _messages(count: int, size: int) -> AsyncIterator[Any]:
    message = Echo(payload=payload(size))
    for _ in range(count):
        yield message


async def connect(endpoint: Endpoint) -> Client:
    authority = (endpoint.tls / "ca.pem").read_bytes() if endpoint.tls else None
    transport = HTTPTransport(http_version=HTTPVersion.HTTP2, tls_ca_cert=authority)
    client = BenchClient(
        f"{'https' if endpoint.tls else 'http'}://{endpoint.address}",
        http_client=HttpClient(transport),
        interceptors=[PassOn()] if endpoint.interceptor == "client" else [],
        accept_compression=(),
        send_compression=None,
    )
    await client.unary(Echo())  # connects
    return Client(transport, client)


def drive(endpoint: Endpoint) -> None:
    asyncio_peer.drive(connect, endpoint)
