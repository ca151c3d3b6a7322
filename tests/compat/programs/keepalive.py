"""Keepalive: an idle connection is kept, and a server ends connections that are old."""

import asyncio
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from serving import serve

CLIENT_OPTIONS = [
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.max_pings_without_data", 5),
    ("grpc.keepalive_permit_without_calls", 1),
]
SERVER_OPTIONS = [
    ("grpc.keepalive_time_ms", 20000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.max_connection_idle_ms", 600000),
    ("grpc.max_connection_age_ms", 300),
    ("grpc.max_connection_age_grace_ms", 30000),
]


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        if request.name == "slow":
            await asyncio.sleep(1.2)  # longer than its connection is to live
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")


async def server(address):
    server = grpc.aio.server(options=SERVER_OPTIONS)
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address)


async def client(target):
    async with grpc.aio.insecure_channel(target, options=CLIENT_OPTIONS) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        for name in ("you", "slow", "you again"):
            response = await stub.SayHello(helloworld_pb2.HelloRequest(name=name))
            print("received", response.message)
        # By now the first connection has ended, and nobody has noticed.
        await channel.channel_ready()
        print(channel.get_state())
        for _ in range(3):
            await asyncio.sleep(0.2)
            response = await stub.SayHello(
                helloworld_pb2.HelloRequest(name="later"), wait_for_ready=True
            )
            print("received", response.message)


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
