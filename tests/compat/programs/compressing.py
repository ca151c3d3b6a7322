"""Compression: of a server, of a channel, of a call, of a message."""

import asyncio
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from serving import serve


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        if request.name == "Deflate":
            context.set_compression(grpc.Compression.Deflate)
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}! " * 1000)

    async def SayHelloStreamReply(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        for number in range(4):
            if number % 2:
                context.disable_next_message_compression()
            yield helloworld_pb2.HelloReply(message=f"{number}" * 1000)


async def server(address):
    server = grpc.aio.server(compression=grpc.Compression.Gzip)
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address)


async def client(target):
    for compression in (None, *list(grpc.Compression)[:3]):
        async with grpc.aio.insecure_channel(target, compression=compression) as channel:
            stub = helloworld_pb2_grpc.GreeterStub(channel)
            for name, of_call in (
                ("you", None),
                ("Deflate", grpc.Compression.Deflate),
                ("y" * 1000, grpc.Compression.NoCompression),
            ):
                request = helloworld_pb2.HelloRequest(name=name)
                response = await stub.SayHello(request, compression=of_call, wait_for_ready=True)
                print(compression, of_call, len(response.message))
            request = helloworld_pb2.HelloRequest(name="you")
            lengths = [len(each.message) async for each in stub.SayHelloStreamReply(request)]
            print(lengths)


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
