"""Hello world."""

import asyncio
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from serving import serve


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

    async def SayHelloStreamReply(self, request, context):
        for greeting in ("Hello", "Hallo", "Bonjour"):
            yield helloworld_pb2.HelloReply(message=f"{greeting}, {request.name}!")


async def server(address):
    server = grpc.aio.server()
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        response = await stub.SayHello(helloworld_pb2.HelloRequest(name="you"))
        print("Greeter client received:", response.message)

        async for response in stub.SayHelloStreamReply(helloworld_pb2.HelloRequest(name="you")):
            print("from async generator:", response.message)

        call = stub.SayHelloStreamReply(helloworld_pb2.HelloRequest(name="you"))
        while True:
            response = await call.read()
            if response == grpc.aio.EOF:
                break
            print("from read:", response.message)

    # With options, and a deadline.
    options = [("grpc.lb_policy_name", "pick_first"), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        await channel.channel_ready()
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        response = await stub.SayHello(helloworld_pb2.HelloRequest(name="again"), timeout=10)
        print("Greeter client received:", response.message, channel.get_state())


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
