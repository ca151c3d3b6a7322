"""Packages that were written for grpc.aio, as they are: health, reflection, grpc-interceptor."""

import asyncio
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_interceptor import AsyncExceptionToStatusInterceptor
from grpc_interceptor.exceptions import NotFound
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from serving import serve

SERVICE = "helloworld.Greeter"


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def __init__(self, health):
        self.health = health

    async def SayHello(self, request, context):
        if request.name == "sick":
            await self.health.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
        elif request.name != "you":
            raise NotFound(f"no {request.name} here")
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")


async def server(address):
    server = grpc.aio.server(interceptors=[AsyncExceptionToStatusInterceptor()])
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(health_servicer), server)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    await health_servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    await serve(server, address)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        greeter = helloworld_pb2_grpc.GreeterStub(channel)
        print((await greeter.SayHello(helloworld_pb2.HelloRequest(name="you"))).message)
        try:
            await greeter.SayHello(helloworld_pb2.HelloRequest(name="nobody"))
        except grpc.aio.AioRpcError as error:
            print(error.code(), error.details())

        checks = health_pb2_grpc.HealthStub(channel)
        watch = checks.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        print("status", (await watch.read()).status)
        await greeter.SayHello(helloworld_pb2.HelloRequest(name="sick"))
        print("status", (await watch.read()).status)
        watch.cancel()
        print("status", (await checks.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status)
        try:
            await checks.Check(health_pb2.HealthCheckRequest(service="nothing"))
        except grpc.aio.AioRpcError as error:
            print(error.code())

        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        async for response in stub.ServerReflectionInfo(iter(requests)):
            print([service.name for service in response.list_services_response.service])
            print(len(response.file_descriptor_response.file_descriptor_proto))


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
