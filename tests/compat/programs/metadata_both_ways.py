"""Metadata, in both directions."""

import asyncio
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from serving import serve


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        for key, value in context.invocation_metadata():
            if key.startswith("x-"):
                print("server received", key, value)
        await context.send_initial_metadata(
            (("checksum-bin", b"I agree\x00"), ("retry", "false"), ("retry", "really"))
        )
        context.set_trailing_metadata(
            grpc.aio.Metadata(("checksum-bin", b"I agree\xff"), ("retry", "false"))
        )
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")


async def server(address):
    server = grpc.aio.server()
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address)


def show(when, metadata):
    for key, value in metadata:
        if key in ("checksum-bin", "retry"):
            print(when, key, value)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        call = stub.SayHello(
            helloworld_pb2.HelloRequest(name="you"),
            metadata=(
                ("x-initial", "The value should be str"),
                ("x-binary-bin", b"With -bin the value can be bytes \x80"),
                ("x-twice", "1"),
                ("x-twice", "2"),
            ),
        )
        show("initial", await call.initial_metadata())
        print((await call).message)
        show("trailing", await call.trailing_metadata())
        trailing = await call.trailing_metadata()
        print(trailing["retry"], trailing.get_all("retry"), trailing.get("nothing"))
        try:
            await stub.SayHello(helloworld_pb2.HelloRequest(), metadata=(("Upper Case", "x"),))
        except Exception:
            print("a key has lower case letters")


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
