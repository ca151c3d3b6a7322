"""Errors with details."""

import asyncio
import pickle
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from serving import serve


def greeted_too_often(name):
    detail = any_pb2.Any()
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=f"name: {name}", description="Limit one greeting per person"
    )
    detail.Pack(error_details_pb2.QuotaFailure(violations=[violation]))
    return status_pb2.Status(
        code=code_pb2.RESOURCE_EXHAUSTED, message="Request limit exceeded.", details=[detail]
    )


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def __init__(self):
        self.greeted = set()

    async def SayHello(self, request, context):
        if not request.name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "who?")
        if request.name == "nobody":
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("nobody is here")
            return helloworld_pb2.HelloReply()
        if request.name in self.greeted:
            await context.abort_with_status(rpc_status.to_status(greeted_too_often(request.name)))
        self.greeted.add(request.name)
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")


async def server(address):
    server = grpc.aio.server()
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = helloworld_pb2_grpc.GreeterStub(channel)
        for name in ("Alice", "Alice", "", "nobody"):
            call = stub.SayHello(helloworld_pb2.HelloRequest(name=name))
            try:
                response = await call
                print("received", response.message)
            except grpc.aio.AioRpcError as error:
                print("failed:", error.code(), error.details())
                status = rpc_status.from_call(error)
                for detail in status.details if status else ():
                    info = error_details_pb2.QuotaFailure()
                    if detail.Unpack(info):
                        print("quota failure:", info.violations[0].subject)
                same = await rpc_status.aio.from_call(call)
                print("the same of the call:", same == status)
                again = pickle.loads(pickle.dumps(error))
                print("pickled:", again.code(), again.details())
        try:
            await channel.unary_unary("/helloworld.Greeter/Nothing")(b"")
        except grpc.RpcError as error:
            print("failed:", error.code(), error.details())


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
