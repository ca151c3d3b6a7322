"""The messages are betterproto2's dataclasses."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from generated.greeter.v1 import GreetReply, GreetRequest
from generated.greeter.v1.greeter_protosocket import GreeterServicer, GreeterStub

import protosocket_rpc


class Greeter(GreeterServicer):
    async def Greet(self, request: GreetRequest, context: Any) -> GreetReply:
        return GreetReply(text=f"Hello, {request.name}!")

    async def GreetInEveryLanguage(
        self, request: GreetRequest, context: Any
    ) -> AsyncIterator[GreetReply]:
        for word in "Hello", "Hallo", "Bonjour":
            yield GreetReply(text=f"{word}, {request.name}!")


async def main() -> None:
    server = protosocket_rpc.server()
    server.add(Greeter())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with protosocket_rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = GreeterStub(channel)
        print(await stub.Greet(GreetRequest(name="Ada")))
        async for reply in stub.GreetInEveryLanguage(GreetRequest(name="Bob")):
            print(reply.text)
    await server.stop()


asyncio.run(main())
