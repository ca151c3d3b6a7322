"""What a program sees of ``grpc.aio``: each function here, once with grpcio and once with ours.

``python scenarios.py grpcio|compat`` prints the results as JSON, by name. Written as users of
``grpc.aio`` write, without types.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import logging
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __name__ == "__main__" and sys.argv[1] == "compat":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from protosocket_rpc.compat import grpc
else:
    import grpc  # type: ignore[no-redef]  # one of the two

tenant = contextvars.ContextVar("tenant", default="nobody")


class Handlers(grpc.GenericRpcHandler):
    """Serves the functions that a scenario gives, whatever kind they are of."""

    def __init__(self, **functions: Any) -> None:
        self.functions = functions

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        function = self.functions.get(name)
        if function is None:
            return None
        kind = {
            "uu": grpc.unary_unary_rpc_method_handler,
            "us": grpc.unary_stream_rpc_method_handler,
            "su": grpc.stream_unary_rpc_method_handler,
            "ss": grpc.stream_stream_rpc_method_handler,
        }[name[:2]]
        return kind(function)


@contextlib.asynccontextmanager
async def running(*, server_options: Any = None, channel_options: Any = None, **functions: Any):
    server = grpc.aio.server(migration_thread_pool=ThreadPoolExecutor(4), **(server_options or {}))
    server.add_generic_rpc_handlers((Handlers(**functions),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", **(channel_options or {})) as channel:
        yield channel
    await server.stop(None)


async def echo(request, context):
    return request


async def forever(request, context):
    await asyncio.Event().wait()


async def three(request, context):
    for index in range(3):
        yield request + str(index).encode()


async def join(requests, context):
    return b"".join([request async for request in requests])


async def echo_all(requests, context):
    async for request in requests:
        yield request


async def stream(*messages):
    for message in messages:
        yield message


def error_of(error):
    return [type(error).__name__, error.code().name, error.details()]


async def outcome(awaitable):
    """What awaiting gives, or what it raises."""
    try:
        return await awaitable
    except grpc.RpcError as error:
        return error_of(error)
    except (Exception, asyncio.CancelledError) as error:
        return type(error).__name__


def raised_by(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__


async def collect(call):
    return [reply.decode() async for reply in call]


# -- the behaviours that users rely on -----------------------------------------------------


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


# -- calls ---------------------------------------------------------------------------------


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
        result = await outcome(channel.unary_unary("/s/uu")(b"", timeout=0.2))
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


# -- channels and servers ------------------------------------------------------------------


async def states_of_a_channel():
    async with running(uu=echo) as channel:
        before = channel.get_state()
        await channel.channel_ready()
        ready = channel.get_state()
        waiting = asyncio.ensure_future(channel.wait_for_state_change(ready))
        await asyncio.sleep(0)
        changed = waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        return [before.name, ready.name, changed, list(grpc.ChannelConnectivity.READY.value)]


async def a_server_that_is_not_there():
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    async with channel:
        result = await outcome(channel.unary_unary("/s/uu")(b""))
        return result[:2]


async def wait_for_ready():
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    async with channel:
        result = await outcome(channel.unary_unary("/s/uu")(b"", wait_for_ready=True, timeout=0.3))
        return result[:2]


async def a_port_that_is_taken():
    options = (("grpc.so_reuseport", 0),)
    one, two = grpc.aio.server(options=options), grpc.aio.server(options=options)
    port = one.add_insecure_port("127.0.0.1:0")
    await one.start()
    try:
        two.add_insecure_port(f"127.0.0.1:{port}")
    except Exception as error:
        return type(error).__name__
    finally:
        await one.stop(None)


async def stop_is_idempotent():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    waited = await server.wait_for_termination(0.05)
    await server.stop(None)
    await server.stop(None)
    await server.stop(1)
    return [waited, await server.wait_for_termination()]


async def stop_with_grace_waits():
    release = asyncio.Event()
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await release.wait()
        return request

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=wait),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        await started.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)
        release.set()
        result = await outcome(call)
        await stopping
        return result.decode()


async def stop_without_grace_aborts():
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await asyncio.Event().wait()

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=wait),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        await started.wait()
        await server.stop(None)
        return (await outcome(call))[1]


async def most_concurrent_rpcs():
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await asyncio.Event().wait()

    async with running(server_options={"maximum_concurrent_rpcs": 1}, uu=wait) as channel:
        first = channel.unary_unary("/s/uu")(b"")
        await started.wait()
        second = await outcome(channel.unary_unary("/s/uu")(b""))
        first.cancel()
        return [second[1], second[2].startswith("Concurrent RPC limit exceeded!")]


async def compression_is_accepted():
    async def handler(request, context):
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        return request

    async with running(
        server_options={"compression": grpc.Compression.Gzip},
        channel_options={"compression": grpc.Compression.Deflate},
        uu=handler,
    ) as channel:
        method = channel.unary_unary("/s/uu")
        return [
            len(await method(bytes(10_000))),
            len(await method(bytes(10_000), compression=grpc.Compression.Gzip)),
            [int(each) for each in list(grpc.Compression)[:3]],
        ]


# -- interceptors --------------------------------------------------------------------------


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


# -- code of other shapes ------------------------------------------------------------------


def to_json(message):
    return json.dumps(message).encode()


async def method_handlers_in_a_dictionary():
    server = grpc.aio.server()
    handlers = {
        "uu": grpc.unary_unary_rpc_method_handler(
            echo, request_deserializer=json.loads, response_serializer=to_json
        )
    }
    generic = grpc.method_handlers_generic_handler("pkg.Service", handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers("pkg.Service", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(
            "/pkg.Service/uu",
            request_serializer=to_json,
            response_deserializer=json.loads,
            _registered_method=True,
        )
        result = await method(["a", 1])
    await server.stop(None)
    handler = handlers["uu"]
    return [
        result,
        generic.service_name(),
        [handler.request_streaming, handler.response_streaming, handler.unary_unary is echo],
        handler.unary_stream,
        isinstance(handler, grpc.RpcMethodHandler),
        isinstance(handler._replace(unary_unary=None), tuple),
        isinstance(generic, grpc.GenericRpcHandler),
    ]


async def unix_socket():
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handlers(uu=echo),))
        server.add_insecure_port(f"unix:{directory}/socket")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{directory}/socket") as channel:
            result = await channel.unary_unary("/s/uu")(b"x")
        await server.stop(None)
        return result.decode()


SCENARIOS = {
    name: function
    for name, function in list(globals().items())
    # From 3.12 on, the module inspect itself passes for a coroutine function.
    if inspect.isfunction(function)
    and inspect.iscoroutinefunction(function)
    and not inspect.signature(function).parameters
    and function.__module__ == __name__
}


async def run_all() -> dict[str, Any]:
    return {name: await run_one(scenario) for name, scenario in SCENARIOS.items()}


async def run_one(scenario: Any) -> Any:
    try:
        return await asyncio.wait_for(scenario(), 30)
    except Exception as error:
        return f"the scenario failed: {error!r}"


if __name__ == "__main__":
    logging.disable()
    print(json.dumps(asyncio.run(run_all()), default=repr))
