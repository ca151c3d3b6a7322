"""Interceptors, on both sides."""

from __future__ import annotations

import json

from scenarios import (
    collect,
    echo,
    echo_all,
    forever,
    grpc,
    outcome,
    raised_by,
    running,
    stream,
    three,
)


class Logging(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
):
    def __init__(self):
        self.seen = []

    def see(self, kind, details):
        details.metadata.add("seen", kind)
        self.seen.append([kind, details.method.decode(), details.timeout])

    async def intercept_unary_unary(self, continuation, client_call_details, request):
        self.see("uu", client_call_details)
        call = await continuation(client_call_details, request)
        self.seen.append([(await call.code()).name, isinstance(call, grpc.aio.UnaryUnaryCall)])
        return call

    async def intercept_unary_stream(self, continuation, client_call_details, request):
        self.see("us", client_call_details)
        return await continuation(client_call_details, request)

    async def intercept_stream_unary(self, continuation, client_call_details, request_iterator):
        self.see("su", client_call_details)
        return await continuation(client_call_details, request_iterator)

    async def intercept_stream_stream(self, continuation, client_call_details, request_iterator):
        self.see("ss", client_call_details)
        return await continuation(client_call_details, request_iterator)


async def unary_client_interceptor():
    class One(grpc.aio.UnaryUnaryClientInterceptor):
        def __init__(self, name):
            self.name = name

        async def intercept_unary_unary(self, continuation, client_call_details, request):
            metadata = client_call_details.metadata
            metadata.add("via", self.name)
            details = grpc.aio.ClientCallDetails(
                client_call_details.method,
                30,
                metadata,
                client_call_details.credentials,
                client_call_details.wait_for_ready,
            )
            call = await continuation(details, request + self.name.encode())
            return call

    async def handler(request, context):
        via = [value for key, value in context.invocation_metadata() if key == "via"]
        return request + json.dumps(via).encode() + (b"!" if context.time_remaining() else b"")

    async with running(
        channel_options={"interceptors": [One("1"), One("2")]}, uu=handler
    ) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        return [(await call).decode(), isinstance(call, grpc.aio.UnaryUnaryCall)]


async def client_interceptor_that_answers():
    class Cache(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return b"cached"

    async with running(channel_options={"interceptors": [Cache()]}, uu=echo) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        return [(await call).decode(), (await call.code()).name, await call.details(), call.done()]


async def client_interceptor_that_replaces_replies():
    class Upper(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation, client_call_details, request):
            call = await continuation(client_call_details, request)

            async def upper():
                async for reply in call:
                    yield reply.upper()

            return upper()

    async with running(channel_options={"interceptors": [Upper()]}, us=three) as channel:
        call = channel.unary_stream("/s/us")(b"a")
        return [await collect(call), (await call.code()).name]


async def client_interceptor_that_retries():
    attempts = 0

    async def flaky(request, context):
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return request

    class Retry(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            for _ in range(3):
                call = await continuation(client_call_details, request)
                if await call.code() is grpc.StatusCode.OK:
                    break
            return call

    async with running(channel_options={"interceptors": [Retry()]}, uu=flaky) as channel:
        return [(await channel.unary_unary("/s/uu")(b"x")).decode(), attempts]


async def failure_through_a_client_interceptor():
    async def fail(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no", (("k", "v"),))

    async with running(
        channel_options={"interceptors": [Logging()]}, uu=fail, uu2=forever
    ) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        results = [
            await outcome(call),
            (await call.code()).name,
            await call.details(),
            (await call.trailing_metadata())["k"],
        ]
        cancelled = channel.unary_unary("/s/uu2")(b"")
        cancelled.cancel()
        return [*results, await outcome(cancelled), (await cancelled.code()).name]


async def server_interceptor_sees_the_call():
    seen = []

    class Watch(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            handler = await continuation(handler_call_details)
            seen.append(
                [
                    handler_call_details.method,
                    dict(handler_call_details.invocation_metadata)["k"],
                    handler is None or [handler.request_streaming, handler.response_streaming],
                ]
            )
            return handler

    async with running(
        server_options={"interceptors": (Watch(),)}, uu=echo, ss=echo_all
    ) as channel:
        metadata = (("k", "v"),)
        await channel.unary_unary("/s/uu")(b"", metadata=metadata)
        await collect(channel.stream_stream("/s/ss")(stream(b"x"), metadata=metadata))
        unknown = await outcome(channel.unary_unary("/s/nothing")(b"", metadata=metadata))
        return [seen, unknown]


async def server_interceptor_that_refuses():
    async def refuse(request, context):
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    class Auth(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            if dict(handler_call_details.invocation_metadata).get("token") == "t":
                return await continuation(handler_call_details)
            return grpc.unary_unary_rpc_method_handler(refuse)

    async with running(server_options={"interceptors": (Auth(),)}, uu=echo) as channel:
        method = channel.unary_unary("/s/uu")
        return [
            await outcome(method(b"x")),
            (await method(b"x", metadata=(("token", "t"),))).decode(),
        ]


async def server_interceptors_in_order():
    order = []

    class Named(grpc.aio.ServerInterceptor):
        def __init__(self, name):
            self.name = name

        async def intercept_service(self, continuation, handler_call_details):
            order.append(self.name)
            handler = await continuation(handler_call_details)

            async def wrapped(request, context):
                order.append(f"{self.name} handler")
                return await handler.unary_unary(request, context) + self.name.encode()

            return grpc.unary_unary_rpc_method_handler(
                wrapped,
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )

    async with running(
        server_options={"interceptors": (Named("1"), Named("2"))}, uu=echo
    ) as channel:
        return [(await channel.unary_unary("/s/uu")(b"x")).decode(), order]


async def invalid_interceptors():
    return [
        raised_by(lambda: grpc.aio.server(interceptors=[object()])),
        raised_by(lambda: grpc.aio.insecure_channel("127.0.0.1:1", interceptors=[object()])),
    ]
