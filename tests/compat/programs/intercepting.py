"""Interceptors of servers and of clients."""

import asyncio
import collections
import contextvars
import sys

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
from serving import serve

rpc_id = contextvars.ContextVar("rpc_id", default="default")


class RPCIdInterceptor(grpc.aio.ServerInterceptor):
    """Passes the id of an RPC on to its handler."""

    def __init__(self, tag):
        self.tag = tag

    async def intercept_service(self, continuation, handler_call_details):
        given = dict(handler_call_details.invocation_metadata).get("client-rpc-id", "none")
        before = rpc_id.get()
        rpc_id.set(f"{self.tag}-{given}" if before == "default" else f"{self.tag}-{before}")
        return await continuation(handler_call_details)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses who has no token."""

    def __init__(self, token):
        async def refuse(request, context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")

        self.token = token
        self.refusal = grpc.unary_unary_rpc_method_handler(
            refuse, request_deserializer=helloworld_pb2.HelloRequest.FromString
        )

    async def intercept_service(self, continuation, handler_call_details):
        if ("token", self.token) in tuple(handler_call_details.invocation_metadata):
            return await continuation(handler_call_details)
        return self.refusal


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    async def SayHello(self, request, context):
        print("handling rpc", rpc_id.get())
        return helloworld_pb2.HelloReply(message=f"Hello, {request.name}!")

    async def SayHelloStreamReply(self, request, context):
        print("handling stream", rpc_id.get())
        for number in range(3):
            yield helloworld_pb2.HelloReply(message=f"{request.name} {number}")


async def server(address):
    server = grpc.aio.server(
        interceptors=[RPCIdInterceptor("one"), RPCIdInterceptor("two"), TokenInterceptor("42")]
    )
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    await serve(server, address)


class ClientCallDetails(
    collections.namedtuple(
        "ClientCallDetails", ("method", "timeout", "metadata", "credentials", "wait_for_ready")
    ),
    grpc.aio.ClientCallDetails,
):
    pass


def with_metadata(details, *pairs):
    metadata = [*(details.metadata or ()), *pairs]
    return ClientCallDetails(
        details.method,
        details.timeout,
        grpc.aio.Metadata(*metadata),
        details.credentials,
        details.wait_for_ready,
    )


class AddToken(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, client_call_details, request):
        details = with_metadata(client_call_details, ("token", "42"), ("client-rpc-id", "1"))
        return await continuation(details, request)


class AddTokenToStreams(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation, client_call_details, request):
        return await continuation(with_metadata(client_call_details, ("token", "42")), request)


class LogResponses(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation, client_call_details, request):
        print("calling", client_call_details.method, request.name)
        call = await continuation(client_call_details, request)
        print("ended with", await call.code())
        return call


class DefaultValue(grpc.aio.UnaryUnaryClientInterceptor):
    """Answers in the server's place if that does not."""

    async def intercept_unary_unary(self, continuation, client_call_details, request):
        call = await continuation(client_call_details, request)
        if await call.code() is grpc.StatusCode.OK:
            return call
        return helloworld_pb2.HelloReply(message="a default")


async def client(target):
    request = helloworld_pb2.HelloRequest(name="you")
    for interceptors in (
        [],
        [LogResponses(), AddToken(), AddTokenToStreams()],
        [DefaultValue(), LogResponses()],
    ):
        async with grpc.aio.insecure_channel(target, interceptors=interceptors) as channel:
            stub = helloworld_pb2_grpc.GreeterStub(channel)
            try:
                print("received", (await stub.SayHello(request)).message)
                if len(interceptors) == 3:
                    async for response in stub.SayHelloStreamReply(request):
                        print("received", response.message)
            except grpc.aio.AioRpcError as error:
                print("failed:", error.code(), error.details())


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
