"""A program in which type checkers find a mistake on each line that says so, and on no other."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gen.helloworld_pb2 import HelloReply, HelloRequest
from gen.helloworld_protosocket import GreeterServicer, GreeterStub

import protosocket_rpc

Replies = AsyncIterator[HelloReply]
Context = protosocket_rpc.ServicerContext[HelloRequest, HelloReply]


class WrongReply(GreeterServicer):
    async def SayHello(self, request: HelloRequest, context: Context) -> HelloRequest:  # mistake
        return request

    async def SayHelloInEveryLanguage(  # mistake
        self, request: HelloRequest, context: Context
    ) -> AsyncIterator[HelloRequest]:
        yield request


class WrongKind(GreeterServicer):
    async def SayHelloInEveryLanguage(  # mistake: a coroutine where a generator belongs
        self, request: HelloRequest, context: Context
    ) -> HelloReply:
        return HelloReply()

    async def GreetAll(  # mistake: a generator where a coroutine belongs
        self, request_iterator: AsyncIterator[HelloRequest], context: Context
    ) -> AsyncIterator[HelloReply]:
        yield HelloReply()


class WrongRequest(GreeterServicer):
    async def SayHello(self, request: HelloReply, context: Context) -> HelloReply:  # mistake
        return request

    def Greet(self, request_iterator: HelloRequest, context: Context) -> Replies:  # mistake
        raise NotImplementedError


class NoSuchField(GreeterServicer):
    async def SayHello(self, request: HelloRequest, context: Context) -> HelloReply:
        return HelloReply(message=request.nam)  # mistake: no such field


async def requests() -> AsyncIterator[HelloReply]:
    yield HelloReply()


async def main(channel: protosocket_rpc.Channel) -> None:
    stub = GreeterStub(channel)
    await stub.SayHello(HelloReply())  # mistake: the request's type
    await stub.SayHello(HelloRequest(), timeut=1)  # mistake: no such argument
    await stub.SayHello(HelloRequest(), timeout="1")  # mistake: the argument's type
    await stub.SayHello()  # mistake: no request
    print(stub.SayHello(HelloRequest()).message)  # mistake: no await
    reply: HelloReply = stub.SayHello(HelloRequest())  # mistake: no await
    print(reply)
    await stub.SayHelloInEveryLanguage(HelloRequest())  # mistake: a stream is not awaited
    await stub.GreetAll(requests())  # mistake: the requests' type
    await stub.GreetAll(HelloRequest())  # mistake: one request where a stream belongs
    async for _ in stub.GreetAll([HelloRequest()]):  # mistake: one reply is no stream
        pass
    await stub.SayGoodbye(HelloRequest())  # mistake: no such method
    print((await stub.SayHello(HelloRequest())).name)  # mistake: no such field
