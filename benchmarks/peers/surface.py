"""Servicer and client for every package with the surface of grpc.aio: the same code for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import echo_pb2

from benchmarks.load import Unary
from benchmarks.peers.messages import burn, echo_request, payload
from benchmarks.work import DEADLINE_SECONDS, METADATA, Work


class Bench:
    """The servicer; its generated base is mixed in by the peer."""

    async def Unary(self, request: Any, context: Any) -> Any:
        return request

    async def Hold(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(request.number / 1000)
        return request

    def Burn(self, request: Any, context: Any) -> Any:  # a plain function runs in a thread
        burn(request.number)
        return request

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        message = echo_pb2.Echo(payload=payload(request.size))
        for _ in range(request.count):
            yield message

    async def ClientStream(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        count = 0
        async for _ in request_iterator:
            count += 1
        return echo_pb2.Echo(number=count)

    async def BidiStream(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        async for request in request_iterator:
            yield request


class Client:
    """One channel; `wide` is the stub of the last of 50 services, where that is to be called."""

    def __init__(self, channel: Any, stub: Any, wide: Any = None) -> None:
        self._channel = channel
        self._stub = stub
        self._unary = wide.M9 if wide else stub.Unary

    async def close(self) -> None:
        await self._channel.close()

    def unary(self, method: str, work: Work) -> Unary:
        invoke = self._unary if method == "Unary" else getattr(self._stub, method)
        options: dict[str, Any] = {}
        if work.metadata:
            options["metadata"] = METADATA
        if work.deadline:
            options["timeout"] = DEADLINE_SECONDS
        return Unary(
            echo_request(echo_pb2.Echo, work), partial(invoke, **options) if options else invoke
        )

    async def server_stream(self, count: int, size: int) -> int:
        received = 0
        async for _ in self._stub.ServerStream(echo_pb2.Flow(count=count, size=size)):
            received += 1
        return received

    async def client_stream(self, count: int, size: int) -> int:
        answer = await self._stub.ClientStream(_messages(count, size))
        number: int = answer.number
        return number

    async def bidi(self, count: int, size: int) -> int:
        received = 0
        async for _ in self._stub.BidiStream(_messages(count, size)):
            received += 1
        return received

    async def ping_pong(self, size: int, lap: Callable[[], bool]) -> None:
        call = self._stub.BidiStream()
        message = echo_pb2.Echo(payload=payload(size))
        while lap():
            await call.write(message)
            await call.read()
        await call.done_writing()
        await call.read()


async def _messages(count: int, size: int) -> AsyncIterator[Any]:
    message = echo_pb2.Echo(payload=payload(size))
    for _ in range(count):
        yield message


class PassOnClient:
    """The client's interceptor; its base is mixed in by the peer."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)


class PassOnServer:
    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return await continuation(handler_call_details)
