"""Graceful shutdown: a server that is told to stop ends what it has begun."""

import asyncio
import os
import signal
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from serving import serve


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def __init__(self):
        self.greeting = asyncio.Event()
        self.told_to_stop = asyncio.Event()

    async def SayHello(self, request, context):
        if request.name == "pid":
            return helloworld_pb2.HelloReply(message=str(os.getpid()))
        try:
            self.greeting.set()
            await self.told_to_stop.wait()
            await asyncio.sleep(0.2)
            return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")
        finally:
            print("cleaned up", flush=True)

    async def SayHelloStreamReply(self, request, context):
        yield helloworld_pb2.HelloReply(message="stream is open")
        await self.greeting.wait()
        yield helloworld_pb2.HelloReply(message="greeting is under way")
        await asyncio.sleep(3600)


async def server(address):
    server = grpc.aio.server()
    greeter = Greeter()
    helloworld_pb2_grpc.add_GreeterServicer_to_server(greeter, server)
    await serve(server, address, grace=2, told_to_stop=greeter.told_to_stop)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        pid = int((await stub.SayHello(helloworld_pb2.HelloRequest(name="pid"))).message)
        endless = stub.SayHelloStreamReply(helloworld_pb2.HelloRequest())
        print((await endless.read()).message)
        call = stub.SayHello(helloworld_pb2.HelloRequest(name="you"))
        print((await endless.read()).message)
        os.kill(pid, signal.SIGTERM)
        print("in flight when the server was told to stop:", (await call).message)
        try:
            await endless.read()
        except grpc.aio.AioRpcError as error:
            print("longer than the grace:", error.code())
        try:
            await stub.SayHello(helloworld_pb2.HelloRequest(name="you"), timeout=30)
        except grpc.aio.AioRpcError as error:
            print("too late:", error.code())


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
