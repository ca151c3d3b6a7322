"""A test double of a service, written by a template of 27 lines."""

import asyncio

from generated.greeter.v1.greeter_fake import FakeGreeter
from generated.greeter.v1.greeter_pb2 import GreetReply, GreetRequest
from generated.greeter.v1.greeter_protosocket import GreeterStub

import protosocket_rpc


async def main() -> None:
    greeter = FakeGreeter(
        Greet=GreetReply(text="Hello!"),
        GreetInEveryLanguage=[GreetReply(text="Hello!"), GreetReply(text="Hallo!")],
    )
    server = protosocket_rpc.server()
    server.add(greeter)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with protosocket_rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = GreeterStub(channel)
        print((await stub.Greet(GreetRequest(name="Ada"))).text)
        async for reply in stub.GreetInEveryLanguage(GreetRequest(name="Bob")):
            print(reply.text)
    await server.stop()
    for method, requests in greeter.requests.items():
        print(f"{method} was asked by {[request.name for request in requests]}")


asyncio.run(main())
