"""grpclib with generated stubs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import echo_grpc
import echo_pb2
from grpclib.client import Channel
from grpclib.events import RecvRequest, SendRequest
from grpclib.events import listen as on_event
from grpclib.server import Server

from benchmarks.load import Unary
from benchmarks.peers import asyncio_peer
from benchmarks.peers.messages import burn, echo_request, payload
from benchmarks.peers.tls import client_tls, server_tls
from benchmarks.wide import METHODS, SERVICES, generated, last_stub
from benchmarks.work import DEADLINE_SECONDS, METADATA, Endpoint, Work


class Servicer(echo_grpc.BenchBase):
    async def Unary(self, stream: Any) -> None:
        await stream.send_message(await stream.recv_message())

    async def Hold(self, stream: Any) -> None:
        request = await stream.recv_message()
        await asyncio.sleep(request.number / 1000)
        await stream.send_message(request)

    async def Burn(self, stream: Any) -> None:
        request = await stream.recv_message()
        await asyncio.get_running_loop().run_in_executor(None, burn, request.number)
        await stream.send_message(request)

    async def ServerStream(self, stream: Any) -> None:
        request = await stream.recv_message()
        message = echo_pb2.Echo(payload=payload(request.size))
        for _ in range(request.count):
            await stream.send_message(message)

    async def ClientStream(self, stream: Any) -> None:
        count = 0
        async for _ in stream:
            count += 1
        await stream.send_message(echo_pb2.Echo(number=count))

    async def BidiStream(self, stream: Any) -> None:
        async for message in stream:
            await stream.send_message(message)


class Client:
    def __init__(self, channel: Channel, wide: bool) -> None:
        self._channel = channel
        self._stub = echo_grpc.BenchStub(channel)
        self._unary = self._stub.Unary
        if wide:
            self._unary = last_stub("wide_grpc")(channel).M9

    async def close(self) -> None:
        self._channel.close()

    def unary(self, method: str, work: Work) -> Unary:
        call = self._unary if method == "Unary" else getattr(self._stub, method)
        timeout = DEADLINE_SECONDS if work.deadline else None
        metadata = METADATA if work.metadata else None
        if not work.deadline and not work.metadata:
            return Unary(echo_request(echo_pb2.Echo, work), call)
        return Unary(
            echo_request(echo_pb2.Echo, work),
            lambda request: call(request, timeout=timeout, metadata=metadata),
        )

    async def server_stream(self, count: int, size: int) -> int:
        received = 0
        async with self._stub.ServerStream.open() as stream:
            await stream.send_message(echo_pb2.Flow(count=count, size=size), end=True)
            async for _ in stream:
                received += 1
        return received

    async def client_stream(self, count: int, size: int) -> int:
        async with self._stub.ClientStream.open() as stream:
            await self._send(stream, count, size)
            answer = await stream.recv_message()
        number: int = answer.number
        return number

    async def bidi(self, count: int, size: int) -> int:
        received = 0
        async with self._stub.BidiStream.open() as stream:
            await stream.send_request()
            sending = asyncio.ensure_future(self._send(stream, count, size))
            async for _ in stream:
                received += 1
            await sending
        return received

    async def ping_pong(self, size: int, lap: Callable[[], bool]) -> None:
        message = echo_pb2.Echo(payload=payload(size))
        async with self._stub.BidiStream.open() as stream:
            while lap():
                await stream.send_message(message)
                await stream.recv_message()
            await stream.end()
            await stream.recv_message()

    async def _send(self, stream: Any, count: int, size: int) -> None:
        message = echo_pb2.Echo(payload=payload(size))
        for _ in range(count):
            await stream.send_message(message)
        await stream.end()


async def _pass_on(event: object) -> None:
    pass


async def connect(endpoint: Endpoint) -> Client:
    if endpoint.unix_path:
        channel = Channel(path=endpoint.unix_path)
    else:
        channel = Channel(endpoint.host, endpoint.port, ssl=client_tls(endpoint, "h2"))
    if endpoint.interceptor == "client":
        on_event(channel, SendRequest, _pass_on)
    client = Client(channel, endpoint.wide)
    # Before the server's settings arrive the client does not know how many streams it may open.
    request, invoke = client.unary("Unary", Work())
    await invoke(request(0))
    return client


async def listen(endpoint: Endpoint) -> Server:
    servicers: list[Any] = [Servicer()]
    for service in SERVICES if endpoint.wide else ():
        base = getattr(generated("wide_grpc"), f"{service}Base")
        servicers.append(type(service, (base,), dict.fromkeys(METHODS, Servicer.Unary))())
    server = Server(servicers)
    if endpoint.interceptor == "server":
        on_event(server, RecvRequest, _pass_on)
    if endpoint.unix_path:
        await server.start(path=endpoint.unix_path)
    else:
        await server.start(endpoint.host, endpoint.port, ssl=server_tls(endpoint, "h2"))
    return server


def drive(endpoint: Endpoint) -> None:
    asyncio_peer.drive(connect, endpoint)


def serve(endpoint: Endpoint) -> None:
    asyncio_peer.serve_forever(lambda: listen(endpoint))
