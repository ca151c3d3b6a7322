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
    async def SayHello(self, request, context):
        if request.name == "pid":
            return helloworld_pb2.HelloReply(message=str(os.getpid()))
        try:
            print("started", flush=True)
            await asyncio.sleep(0.5)
            return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")
        finally:
            print("cleaned up", flush=True)

    async def SayHelloStreamReply(self, request, context):
        yield helloworld_pb2.HelloReply(message="started")
        await asyncio.sleep(3600)


async def server(address):
    server = grpc.aio.server()
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address, grace=2)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        pid = int((await stub.SayHello(helloworld_pb2.HelloRequest(name="pid"))).message)
        endless = stub.SayHelloStreamReply(helloworld_pb2.HelloRequest())
        print((await endless.read()).message)
        call = stub.SayHello(helloworld_pb2.HelloRequest(name="you"))
        await asyncio.sleep(0.2)
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
