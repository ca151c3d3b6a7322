"""The messages stay serialized: a proxy that passes on what it need not understand."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from generated.greeter.v1.greeter_protosocket import GreeterServicer, GreeterStub

import protosocket_rpc


class Greeter(GreeterServicer):
    """Takes and gives JSON, say: the bytes are nobody's business but the two ends'."""

    async def Greet(self, request: bytes, context: Any) -> bytes:
        return b"Hello, " + request

    async def GreetInEveryLanguage(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for word in b"Hello, ", b"Hallo, ":
            yield word + request


class Proxy(GreeterServicer):
    """Passes each call on to another server."""

    def __init__(self, channel: protosocket_rpc.Channel) -> None:
        self.stub = GreeterStub(channel)

    async def Greet(self, request: bytes, context: Any) -> bytes:
        return await self.stub.Greet(request)

    async def GreetInEveryLanguage(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        async for reply in self.stub.GreetInEveryLanguage(request):
            yield reply


async def serve(servicer: GreeterServicer) -> tuple[protosocket_rpc.Server, str]:
    server = protosocket_rpc.server()
    server.add(servicer)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def main() -> None:
    server, address = await serve(Greeter())
    async with protosocket_rpc.insecure_channel(address) as upstream:
        proxy, address = await serve(Proxy(upstream))
        async with protosocket_rpc.insecure_channel(address) as channel:
            stub = GreeterStub(channel)
            print((await stub.Greet(b"Ada!")).decode())
            async for reply in stub.GreetInEveryLanguage(b"Bob!"):
                print(reply.decode())
        await proxy.stop()
    await server.stop()


asyncio.run(main())
