"""What users rely on without noticing."""

from __future__ import annotations

import asyncio
import contextlib

from scenarios import (
    collect,
    echo,
    echo_all,
    forever,
    grpc,
    join,
    outcome,
    running,
    stream,
    tenant,
    three,
)


async def local_cancel():
    async with running(uu=forever) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        return [
            call.cancel(),
            call.cancel(),
            await outcome(call),
            (await call.code()).name,
            await call.details(),
            call.cancelled(),
            call.done(),
        ]


async def local_cancel_of_a_stream():
    async with running(us=three) as channel:
        call = channel.unary_stream("/s/us")(b"")
        first = await call.read()
        cancelled = call.cancel()
        return [first.decode(), cancelled, await outcome(call.read()), (await call.code()).name]


async def cancelling_the_task_that_awaits():
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait(request, context):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(uu=wait) as channel:
        call = channel.unary_unary("/s/uu")(b"")

        async def caller():
            await call

        task = asyncio.ensure_future(caller())
        await started.wait()
        task.cancel()
        result = await outcome(task)
        await ended.wait()
        return [result, call.cancelled(), (await call.code()).name, await call.details()]


async def mixing_read_with_async_for():
    async with running(us=three, ss=echo_all) as channel:
        one = channel.unary_stream("/s/us")(b"")
        await one.read()
        two = channel.unary_stream("/s/us")(b"")
        async for _ in two:
            break

        def iterate(call):
            try:
                call.__aiter__()
            except Exception as error:
                return type(error).__name__

        return [iterate(one), await outcome(two.read())]


async def write_to_an_iterator():
    async with running(su=join, ss=echo_all) as channel:
        return [
            await outcome(channel.stream_unary("/s/su")(stream(b"a")).write(b"x")),
            await outcome(channel.stream_stream("/s/ss")(stream(b"a")).write(b"x")),
        ]


async def read_after_the_end():
    async with running(us=three) as channel:
        call = channel.unary_stream("/s/us")(b"")
        for _ in range(3):
            await call.read()
        return [await call.read() is grpc.aio.EOF for _ in range(3)]


async def eof_is_false():
    return [bool(grpc.aio.EOF), len(grpc.aio.EOF), repr(grpc.aio.EOF)]


async def set_code_with_a_normal_return():
    async def handler(request, context):
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("not here")
        return b"ignored"

    async def generator(request, context):
        yield b"one"
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")

    async with running(uu=handler, us=generator) as channel:
        stream_call = channel.unary_stream("/s/us")(b"")
        return [
            await outcome(channel.unary_unary("/s/uu")(b"")),
            (await stream_call.read()).decode(),
            await outcome(stream_call.read()),
        ]


async def swallowed_abort():
    async def handler(request, context):
        with contextlib.suppress(Exception):
            await context.abort(grpc.StatusCode.ABORTED, "no", (("k", "v"),))
        return b"ignored"

    async with running(uu=handler) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        result = await outcome(call)
        return [result, [list(each) for each in await call.trailing_metadata()]]


async def abort_raises():
    raised = []

    async def handler(request, context):
        try:
            await context.abort(grpc.StatusCode.ABORTED, "no")
        except BaseException as error:
            raised.append(
                [isinstance(error, grpc.aio.AbortError), isinstance(error, grpc.aio.BaseError)]
            )
            raise

    async with running(uu=handler) as channel:
        return [await outcome(channel.unary_unary("/s/uu")(b"")), raised]


async def unknown_method():
    async with running() as channel:
        return [
            await outcome(channel.unary_unary("/s/nothing")(b"")),
            await outcome(collect(channel.unary_stream("/s/nothing")(b""))),
            await outcome(channel.stream_unary("/s/nothing")(stream(b""))),
            await outcome(collect(channel.stream_stream("/s/nothing")(stream(b"")))),
        ]


async def handlers_of_every_kind():
    def plain(request, context):
        return b"plain " + request

    def generator(request, context):
        for index in range(3):
            yield str(index).encode()

    def plain_join(requests, context):
        return b"-".join(requests)

    def plain_echo(requests, context):
        for request in requests:
            yield request.upper()

    async def writer(request, context):
        for index in range(3):
            await context.write(str(index).encode())

    async def reader(requests, context):
        total = b""
        while (request := await context.read()) is not grpc.aio.EOF:
            total += request
        return total

    async with running(
        uu=echo,
        us=three,
        su=join,
        ss=echo_all,
        uu_plain=plain,
        us_plain=generator,
        su_plain=plain_join,
        ss_plain=plain_echo,
        us_writer=writer,
        su_reader=reader,
    ) as channel:
        return [
            (await channel.unary_unary("/s/uu")(b"x")).decode(),
            await collect(channel.unary_stream("/s/us")(b"x")),
            (await channel.stream_unary("/s/su")(stream(b"a", b"b"))).decode(),
            await collect(channel.stream_stream("/s/ss")(stream(b"a", b"b"))),
            (await channel.unary_unary("/s/uu_plain")(b"x")).decode(),
            await collect(channel.unary_stream("/s/us_plain")(b"x")),
            (await channel.stream_unary("/s/su_plain")(stream(b"a", b"b"))).decode(),
            await collect(channel.stream_stream("/s/ss_plain")(stream(b"a", b"b"))),
            await collect(channel.unary_stream("/s/us_writer")(b"x")),
            (await channel.stream_unary("/s/su_reader")(stream(b"a", b"b"))).decode(),
        ]


async def bad_metadata():
    async with running(uu=echo) as channel:
        method = channel.unary_unary("/s/uu")

        async def call(metadata):
            return await method(b"", metadata=metadata)

        return [
            await outcome(call([("key", 1)])),
            await outcome(call([(1, "value")])),
        ]


async def too_large_messages():
    options = (("grpc.max_receive_message_length", 1000),)

    async def large(request, context):
        return bytes(2000)

    async with running(
        server_options={"options": options},
        channel_options={"options": options},
        uu=echo,
        uu2=large,
    ) as channel:
        results = []
        for call in (
            channel.unary_unary("/s/uu")(bytes(2000)),
            channel.unary_unary("/s/uu2")(b""),
        ):
            _, code, details = await outcome(call)
            results.append([code, "1000" in details, "larger than max" in details])
        results.append((await channel.unary_unary("/s/uu")(b"after")).decode())
        return results


async def too_large_to_send():
    options = (("grpc.max_send_message_length", 1000),)
    async with running(channel_options={"options": options}, uu=echo) as channel:
        _, code, details = await outcome(channel.unary_unary("/s/uu")(bytes(2000)))
        return [code, "Sent message larger than max" in details, "vs. 1000)" in details]


async def close_with_grace_waits():
    release = asyncio.Event()
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await release.wait()
        return request

    async with running(uu=wait) as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        await started.wait()
        closing = asyncio.ensure_future(channel.close(30))
        release.set()
        result = await outcome(call)
        await closing
        return result.decode()


async def close_without_grace_cancels():
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await asyncio.Event().wait()

    async with running(uu=wait) as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        await started.wait()
        await channel.close(None)
        return [await outcome(call), (await call.code()).name, channel.get_state().name]


async def use_of_a_closed_channel():
    async with running(uu=echo) as channel:
        method = channel.unary_unary("/s/uu")
        await channel.close()
        try:
            await method(b"")
        except Exception as error:
            return type(error).__name__


async def context_variables_of_an_interceptor():
    class Tenant(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation, handler_call_details):
            tenant.set(dict(handler_call_details.invocation_metadata)["tenant"])
            return await continuation(handler_call_details)

    async def handler(request, context):
        return tenant.get().encode()

    async def generator(request, context):
        yield tenant.get().encode()

    async with running(
        server_options={"interceptors": (Tenant(),)}, uu=handler, us=generator
    ) as channel:
        metadata = (("tenant", "acme"),)
        return [
            (await channel.unary_unary("/s/uu")(b"", metadata=metadata)).decode(),
            await collect(channel.unary_stream("/s/us")(b"", metadata=metadata)),
            tenant.get(),
        ]


async def unknown_options():
    options = (("grpc.some_option", 1), ("mine", "x"))
    async with running(
        server_options={"options": options}, channel_options={"options": options}, uu=echo
    ) as channel:
        return (await channel.unary_unary("/s/uu")(b"x")).decode()
