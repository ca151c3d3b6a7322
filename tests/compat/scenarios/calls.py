"""Calls, of all four kinds."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle

from scenarios import (
    collect,
    echo,
    echo_all,
    error_of,
    grpc,
    join,
    outcome,
    raised_by,
    running,
    stream,
)


async def awaiting_twice():
    async with running(uu=echo, su=join) as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        first, second = await call, await call
        other = channel.stream_unary("/s/su")(stream(b"x"))
        return [first is second, await other is await other, call.done(), call.cancel()]


async def surface_of_a_call():
    async with running(uu=echo) as channel:
        call = channel.unary_unary("/s/uu")(b"x", timeout=30)
        done = asyncio.Event()
        call.add_done_callback(lambda each: done.set() if each is call else None)
        left = call.time_remaining()
        before = [call.done(), call.cancelled(), 0 < left <= 31]
        await call
        await asyncio.wait_for(done.wait(), 10)
        return [
            before,
            [call.done(), call.cancelled(), (await call.code()).name, await call.details()],
            [list(each) for each in await call.initial_metadata()],
            [list(each) for each in await call.trailing_metadata()],
            channel.unary_unary("/s/uu")(b"x").time_remaining(),
            isinstance(call, grpc.aio.Call),
            isinstance(call, grpc.aio.UnaryUnaryCall),
            isinstance(call, grpc.aio.UnaryStreamCall),
            [inspect.isawaitable(call), hasattr(call, "__aiter__")],
        ]


async def debug_error_string_is_awaited():
    async with running() as channel:
        call = channel.unary_unary("/s/nothing")(b"")
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return [
                type(await call.debug_error_string()).__name__,
                type(error.debug_error_string()).__name__,
            ]


async def writing_requests():
    async with running(su=join, ss=echo_all) as channel:
        upload = channel.stream_unary("/s/su")()
        await upload.write(b"a")
        await upload.write(b"b")
        await upload.done_writing()
        await upload.done_writing()
        chat = channel.stream_stream("/s/ss")()
        replies = []
        for message in (b"a", b"b"):
            await chat.write(message)
            replies.append((await chat.read()).decode())
        await chat.done_writing()
        return [
            (await upload).decode(),
            replies,
            await chat.read() is grpc.aio.EOF,
            (await chat.code()).name,
        ]


async def write_after_the_end():
    async with running(su=join, ss=echo_all) as channel:
        upload = channel.stream_unary("/s/su")()
        await upload.done_writing()
        half_closed = await outcome(upload.write(b"x"))
        await upload
        return [
            half_closed == "InvalidStateError" or half_closed,
            await outcome(upload.write(b"x")),
        ]


async def requests_of_a_plain_iterator():
    async with running(su=join, ss=echo_all) as channel:
        return [
            (await channel.stream_unary("/s/su")([b"a", b"b"])).decode(),
            (await channel.stream_unary("/s/su")(iter([b"a", b"b"]))).decode(),
            await collect(channel.stream_stream("/s/ss")(each for each in (b"a", b"b"))),
        ]


async def deadline():
    cancelled = asyncio.Event()

    async def wait(request, context):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(uu=wait) as channel:
        result = await outcome(channel.unary_unary("/s/uu")(b"", timeout=1.0))
        await asyncio.wait_for(cancelled.wait(), 10)
        return result


async def deadline_on_the_server():
    async def handler(request, context):
        left = context.time_remaining()
        return b"some" if left is not None and 0 < left <= 31 else b"none"

    async with running(uu=handler) as channel:
        method = channel.unary_unary("/s/uu")
        return [(await method(b"", timeout=30)).decode(), (await method(b"")).decode()]


async def errors():
    async def handler(request, context):
        await context.send_initial_metadata((("first", "1"),))
        await context.abort(
            grpc.StatusCode.FAILED_PRECONDITION, "no", (("last", "2"), ("raw-bin", b"\x00\xff"))
        )

    async with running(uu=handler) as channel:
        try:
            await channel.unary_unary("/s/uu")(b"")
        except grpc.aio.AioRpcError as error:
            again = pickle.loads(pickle.dumps(error))
            return [
                error_of(error),
                error_of(again),
                dict(error.initial_metadata())["first"],
                dict(again.trailing_metadata())["last"],
                dict(error.trailing_metadata())["raw-bin"].hex(),
                isinstance(error, grpc.RpcError),
            ]


async def abort_keeps_what_was_set():
    given = {
        "nothing": (),
        "empty": ("", ()),
        "metadata": ("", (("given", "now"),)),
        "details": ("given",),
        "both": ("given", (("given", "now"),)),
    }

    def before(context):
        context.set_details("set before")
        context.set_trailing_metadata((("set", "before"),))

    async def handler(request, context):
        before(context)
        await context.abort(grpc.StatusCode.NOT_FOUND, *given[request.decode()])

    def in_a_thread(request, context):
        before(context)
        context.abort(grpc.StatusCode.NOT_FOUND, *given[request.decode()])

    results = []
    for each in (handler, in_a_thread):
        async with running(uu=each) as channel:
            for name in given:
                call = channel.unary_unary("/s/uu")(name.encode())
                results.append(await outcome(call))
                results.append([list(pair) for pair in await call.trailing_metadata()])
    return results


async def every_status_code():
    async def handler(request, context):
        await context.abort(grpc.StatusCode[request.decode()], "text")

    async with running(uu=handler) as channel:
        method = channel.unary_unary("/s/uu")
        return [
            [code.name, list(code.value), await outcome(method(code.name.encode()))]
            for code in grpc.StatusCode
            if code is not grpc.StatusCode.OK
        ]


async def metadata_both_ways():
    async def handler(request, context):
        sent = [
            [key, value.hex() if isinstance(value, bytes) else value]
            for key, value in context.invocation_metadata()
            if key.startswith("x-")
        ]
        await context.send_initial_metadata((("i", "1"), ("i", "2"), ("i-bin", b"\x01")))
        context.set_trailing_metadata((("t", "3"),))
        return json.dumps(sent).encode()

    async with running(uu=handler) as channel:
        call = channel.unary_unary("/s/uu")(
            b"", metadata=(("x-a", "1"), ("x-b-bin", b"\xff\x00"), ("x-a", "2"))
        )
        initial = await call.initial_metadata()
        sent = json.loads(await call)
        return [
            sorted(sent),
            initial.get_all("i"),
            initial["i-bin"].hex(),
            (await call.trailing_metadata())["t"],
            isinstance(initial, grpc.aio.Metadata),
        ]


async def metadata_class():
    metadata = grpc.aio.Metadata(("a", "1"), ("b", "2"), ("a", "3"))
    metadata.add("c", "4")
    other = grpc.aio.Metadata.from_tuple((("a", "1"), ("a", "3"), ("b", "2"), ("c", "4")))
    results = [
        list(metadata),
        len(metadata),
        metadata["a"],
        metadata.get("z"),
        metadata.get("z", "default"),
        metadata.get_all("a"),
        metadata.get_all("z"),
        list(metadata.keys()),
        list(metadata.values()),
        list(metadata.items()),
        "a" in metadata,
        "z" in metadata,
        metadata == other,
        metadata == tuple(other),
        list(metadata + grpc.aio.Metadata(("d", "5"))),
        list(metadata + (("d", "5"),)),  # noqa: RUF005  # the operator is what is asked for
    ]
    metadata["a"] = "changed"
    results.append(list(metadata))
    del metadata["a"]
    results.append(list(metadata))
    metadata.set_all("b", ["x", "y"])
    metadata.delete_all("c")
    results.append(list(metadata))
    results += [
        raised_by(lambda: metadata["z"]),
        raised_by(lambda: metadata.__delitem__("z")),
        raised_by(lambda: metadata.delete_all("z")),
    ]
    return json.loads(json.dumps(results))


async def initial_metadata_before_the_first_message():
    release = asyncio.Event()

    async def handler(request, context):
        await context.send_initial_metadata((("early", "yes"),))
        await release.wait()
        yield b"done"

    async with running(uu=echo, us=handler) as channel:
        await channel.unary_unary("/s/uu")(b"")  # ours: what the server understands is known now
        call = channel.unary_stream("/s/us")(b"")
        early = (await call.initial_metadata())["early"]
        not_yet = call.done()
        release.set()
        return [early, not_yet, await collect(call)]


async def send_initial_metadata_twice():
    async def handler(request, context):
        await context.send_initial_metadata((("a", "1"),))
        try:
            await context.send_initial_metadata((("a", "2"),))
        except Exception as error:
            return type(error).__name__.encode()

    async with running(uu=handler) as channel:
        return (await channel.unary_unary("/s/uu")(b"")).decode()


async def a_context_says_who_calls():
    async def handler(request, context):
        return json.dumps(
            [
                context.peer().rpartition(":")[0],
                context.peer_identities(),
                context.peer_identity_key(),
                context.cancelled(),
                context.done(),
            ]
        ).encode()

    async with running(uu=handler) as channel:
        return json.loads(await channel.unary_unary("/s/uu")(b""))


async def done_callback_of_a_context():
    called = asyncio.Event()

    async def handler(request, context):
        context.add_done_callback(lambda _: called.set())
        return request

    async with running(uu=handler) as channel:
        await channel.unary_unary("/s/uu")(b"")
        await asyncio.wait_for(called.wait(), 10)
        return called.is_set()


async def abort_with_a_status():
    class Status(grpc.Status):
        code = grpc.StatusCode.INVALID_ARGUMENT
        details = "bad"
        trailing_metadata = (("why", "because"),)

    async def handler(request, context):
        await context.abort_with_status(Status())

    async with running(uu=handler) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        return [await outcome(call), (await call.trailing_metadata())["why"]]


async def reply_that_does_not_serialize():
    async def handler(request, context):
        return b""

    def serialize(message):
        raise ValueError("broken")

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(handler, response_serializer=serialize)

    async with running(server_options={"handlers": (Handler(),)}) as channel:
        result = await outcome(channel.unary_unary("/s/uu")(b""))
        return result[0]
