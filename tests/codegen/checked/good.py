"""A program that type checkers have nothing to say about; it is checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gen.helloworld_pb2 import HelloReply, HelloRequest
from gen.helloworld_protosocket import (
    GREETER,
    GreeterServicer,
    GreeterStub,
    add_GreeterServicer_to_server,
)
from typing_extensions import assert_type

import protosocket_rpc


class Greeter(GreeterServicer):
    """Each method as the base has it."""

    async def SayHello(
        self,
        request: HelloRequest,
        context: protosocket_rpc.ServicerContext[HelloRequest, HelloReply],
    ) -> HelloReply:
        return HelloReply(message=request.name)

    async def SayHelloInEveryLanguage(
        self,
        request: HelloRequest,
        context: protosocket_rpc.ServicerContext[HelloRequest, HelloReply],
    ) -> AsyncIterator[HelloReply]:
        yield HelloReply(message=request.name)

    async def GreetAll(
        self,
        request_iterator: AsyncIterator[HelloRequest],
        context: protosocket_rpc.ServicerContext[HelloRequest, HelloReply],
    ) -> HelloReply:
        names = [request.name async for request in request_iterator]
        return HelloReply(message=", ".join(names))

    def Greet(
        self,
        request_iterator: AsyncIterator[HelloRequest],
        context: protosocket_rpc.ServicerContext[HelloRequest, HelloReply],
    ) -> AsyncIterator[HelloReply]:
        return self.replies(request_iterator)

    async def replies(self, requests: AsyncIterator[HelloRequest]) -> AsyncIterator[HelloReply]:
        async for request in requests:
            yield HelloReply(message=request.name)


async def requests() -> AsyncIterator[HelloRequest]:
    yield HelloRequest(name="Ada")


async def main() -> None:
    server = protosocket_rpc.server()
    add_GreeterServicer_to_server(Greeter(), server)
    server.add(Greeter())
    server.add(Greeter(), GREETER)
    async with protosocket_rpc.insecure_channel("localhost:1") as channel:
        stub = GreeterStub(channel)
        call = stub.SayHello(
            HelloRequest(name="Ada"), timeout=1, metadata=(("key", "value"),), wait_for_ready=True
        )
        assert_type(call, protosocket_rpc.UnaryUnaryCall[HelloRequest, HelloReply])
        assert_type(await call, HelloReply)
        async for reply in stub.SayHelloInEveryLanguage(HelloRequest(), timeout=None):
            assert_type(reply, HelloReply)
        assert_type(await stub.GreetAll(requests()), HelloReply)
        assert_type(await stub.GreetAll([HelloRequest()]), HelloReply)
        writer = stub.GreetAll(timeout=1)
        await writer.write(HelloRequest())
        await writer.done_writing()
        assert_type(await writer, HelloReply)
        async for reply in stub.Greet(requests()):
            assert_type(reply, HelloReply)
