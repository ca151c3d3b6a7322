"""What a handler may do: raise anything, return anything, hang on, use all of asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from connectivity.service import SERVICE, Servicer
from service.pair import KINDS, failure, handlers, paired, result
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

STREAMS = ("replies", "both")


class Oddity(BaseException):
    """Not an Exception, and nothing that asyncio knows."""


# -- raising -------------------------------------------------------------------------------

ERRORS: list[Callable[[], BaseException]] = [
    lambda: ValueError("a secret of the server"),
    lambda: Oddity("a secret of the server"),
    lambda: GeneratorExit("a secret of the server"),
    lambda: StopAsyncIteration("a secret of the server"),
    lambda: StopIteration("a secret of the server"),
    lambda: asyncio.TimeoutError("a secret of the server"),
    lambda: ConnectionError("a secret of the server"),
    lambda: ps.ConnectionClosed("a secret of the server"),
    lambda: ps.OutputQueueFull("a secret of the server"),
    lambda: asyncio.CancelledError("a secret of the server"),
    lambda: ps.AioRpcError(ps.StatusCode.NOT_FOUND, details="a secret of the server"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error()).__name__)
@pytest.mark.parametrize("waits", [False, True])
async def test_whatever_a_handler_raises_its_caller_gets_one_answer(
    kind: str,
    error: Callable[[], BaseException],
    waits: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ended: list[Any] = []

    async def handler(request: Any, context: Any) -> bytes:
        context.add_done_callback(ended.append)
        if waits:
            await asyncio.sleep(0)
        raise error()

    async with paired(**handlers(handler)) as pair:
        failed = await failure(pair.start(kind))
        cancelled = isinstance(error(), asyncio.CancelledError)
        assert failed.code() is (ps.StatusCode.CANCELLED if cancelled else ps.StatusCode.UNKNOWN)
        assert "secret" not in str(failed)
        await wait_until(lambda: len(ended) == 1)
    (record,) = [record for record in caplog.records if "/test.Service/" in record.getMessage()]
    assert record.name == "protosocket_rpc.server"
    if not cancelled:
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None


@pytest.mark.parametrize("kind", STREAMS)
async def test_raising_after_some_replies(kind: str) -> None:
    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        raise ValueError("a secret")

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        assert await call.read() == b"1"
        with pytest.raises(ps.AioRpcError, match="the handler failed"):
            await call.read()


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt()"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("waits", [False, True])
def test_what_ends_the_process_answers_first(
    error: str, loop: str, waits: bool, tmp_path: Any
) -> None:
    """As out of any task: it ends the loop. But the caller is told."""
    program = tmp_path / "server.py"
    program.write_text(
        f"""
import asyncio, sys
import {loop}
import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

UNARY = ps.UnaryUnaryMethod("/test.Service/Unary", ps.BYTES, ps.BYTES)

class Servicer:
    async def Unary(self, request, context):
        if {waits}:
            await asyncio.sleep(0)
        raise {error}

async def main():
    server = ps.server()
    server.add(Servicer(), ps.ServiceDescriptor("test.Service", (UNARY,)))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()

{loop}.run(main())
"""
    )
    with subprocess.Popen(
        [sys.executable, "-X", "dev", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())

        async def call() -> ps.AioRpcError:
            async with ps.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await failure(channel.unary_unary("/test.Service/Unary")(b"", timeout=20))

        answer = asyncio.run(call())
        assert answer.code() is ps.StatusCode.UNKNOWN
        assert answer.details() == "the handler failed; the server's log says how"
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == (3 if error == "SystemExit(3)" else -signal.SIGINT)
    assert b"never retrieved" not in stderr


# -- returning -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unary", "requests"])
@pytest.mark.parametrize("reply", [None, "text", 5, [1, 2], object()])
async def test_a_reply_of_the_wrong_type(
    kind: str, reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Any, context: Any) -> Any:
        return reply

    async with paired(Unary=handler, Requests=handler) as pair:
        error = await failure(pair.start(kind))
        assert error.code() is ps.StatusCode.INTERNAL
        assert error.details() == "Failed to serialize response!"
    assert f"gave {type(reply).__name__}, not bytes" in caplog.text


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("reply", [None, "text", 5])
async def test_a_reply_of_the_wrong_type_in_a_stream(kind: str, reply: Any) -> None:
    closed = asyncio.Event()

    async def yields(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield b"fine"
            yield reply
        finally:
            closed.set()

    async def writes(request: Any, context: Any) -> None:
        try:
            await context.write(b"fine")
            await context.write(reply)
        finally:
            closed.set()

    for handler in (yields, writes):
        closed.clear()
        async with paired(Replies=handler, Both=handler) as pair:
            call = pair.start(kind)
            assert await call.read() == b"fine"
            with pytest.raises(ps.AioRpcError, match="Failed to serialize response!"):
                await call.read()
            await closed.wait()


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("reply", [None, 5, object()])
async def test_what_is_no_stream(kind: str, reply: Any) -> None:
    def plain(request: Any, context: Any) -> Any:
        return reply

    async def coroutine(request: Any, context: Any) -> Any:
        return reply

    for handler in (plain, coroutine):
        if handler is coroutine and reply is None:
            continue  # an empty stream
        async with paired(Replies=handler, Both=handler) as pair:
            assert (await failure(pair.start(kind))).code() is ps.StatusCode.UNKNOWN


async def test_a_handler_of_the_wrong_kind_is_refused_at_once() -> None:
    async def yields(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b""

    for name in ("Unary", "Requests"):
        with pytest.raises(TypeError, match="generator"):
            ps.server().add(Servicer(**{name: yields}), SERVICE)


async def test_a_request_that_does_not_parse(caplog: pytest.LogCaptureFixture) -> None:
    def parse(body: bytes) -> bytes:
        if body == b"bad":
            raise ValueError("a secret")
        return body

    request = ps.Marshaller(bytes, parse, "test.Request")
    methods = (
        ps.UnaryUnaryMethod("/test.Service/Unary", request, ps.BYTES),
        ps.UnaryStreamMethod("/test.Service/Replies", request, ps.BYTES),
        ps.StreamUnaryMethod("/test.Service/Requests", request, ps.BYTES),
        ps.StreamStreamMethod("/test.Service/Both", request, ps.BYTES),
    )
    server = ps.server()
    server.add(Servicer(), ps.ServiceDescriptor("test.Service", methods))
    port = server.add_insecure_port("127.0.0.1:0")
    async with server, ps.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in methods:
            call: Any = channel.method(method)  # type: ignore[call-overload]  # any of the four
            good, bad = ([b"x"], [b"x", b"bad"]) if method.streams_requests else (b"x", b"bad")
            caplog.clear()
            error = await failure(call(bad))
            assert error.code() is ps.StatusCode.INTERNAL
            assert error.details() == "Exception deserializing request!"
            assert f"{method.path}: " in caplog.text
            assert "does not parse" in caplog.text
            await result(call(good))


# -- hanging on ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["cancel", "deadline", "disconnect"])
async def test_a_handler_that_swallows_its_cancellation(
    kind: str, end: str, virtual_clock: VirtualClock
) -> None:
    started, released, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await released.wait()
        context.add_done_callback(lambda _: ended.set())
        return b"nobody wants this"

    async with paired(**handlers(handler)) as pair:
        call = pair.start(kind, timeout=0.05 if end == "deadline" else None)
        await started.wait()
        if end == "cancel":
            call.cancel()
        elif end == "disconnect":
            await pair.channel.close()
        assert await call.code() in (ps.StatusCode.CANCELLED, ps.StatusCode.DEADLINE_EXCEEDED)
        assert not ended.is_set()
        released.set()
        await ended.wait()


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_that_goes_on_after_its_cancellation_is_stopped_again(kind: str) -> None:
    ended = asyncio.Event()

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                try:
                    yield b"x"
                    await asyncio.Event().wait()
                except asyncio.CancelledError:  # noqa: PERF203  # what is tested
                    yield b"and on"
        finally:
            ended.set()

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        assert await call.read() == b"x"
        call.cancel()
        await ended.wait()


@pytest.mark.parametrize("kind", STREAMS)
async def test_an_async_generator_is_closed_in_its_own_context_and_task(kind: str) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    seen: list[Any] = []

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        token = var.set("of the handler")
        task = asyncio.current_task()
        try:
            while True:
                yield bytes(100_000)
        finally:
            await asyncio.sleep(0)
            seen.append((var.get(), asyncio.current_task() is task))
            var.reset(token)

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        await call.read()
        call.cancel()
        await wait_until(lambda: seen)
    assert seen == [("of the handler", True)]


@pytest.mark.parametrize("kind", ["requests", "both"])
async def test_a_handler_that_does_not_read_all_requests(kind: str) -> None:
    async def reply(requests: Any, context: Any) -> bytes:
        async for request in requests:
            return bytes(request)
        return b""

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield await reply(requests, context)

    async with paired(Requests=reply, Both=replies) as pair:
        outcome = await result(getattr(pair, kind)([b"a", b"b", b"c"]))
        assert outcome in (b"a", [b"a"])


async def test_reading_what_is_no_stream() -> None:
    seen: list[Any] = []

    async def unary(request: bytes, context: Any) -> bytes:
        seen.append(await context.read())
        try:
            await context.write(b"x")
        except ps.UsageError as error:
            seen.append(type(error))
        return request

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        seen.append(await context.read())
        yield request

    async with paired(Unary=unary, Replies=replies) as pair:
        assert await pair.unary(bytes(200_000)) == bytes(200_000)  # in fragments, too
        assert await result(pair.replies(b"x")) == [b"x"]
    assert seen == [ps.EOF, ps.UsageError, ps.EOF]


@pytest.mark.parametrize("kind", ["requests", "both"])
async def test_reading_and_iterating_do_not_mix(kind: str) -> None:
    seen: list[Any] = []

    async def reply(requests: Any, context: Any) -> bytes:
        async for _ in requests:
            try:
                await context.read()
            except ps.UsageError as error:
                seen.append(str(error))
        return b""

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield await reply(requests, context)

    async with paired(Requests=reply, Both=replies) as pair:
        await result(pair.start(kind))
    assert seen == ["The iterator and read/write APIs may not be mixed on a single RPC."]


async def test_writing_from_several_tasks_loses_nothing() -> None:
    body = bytes(100_000)

    async def handler(request: bytes, context: Any) -> None:
        await asyncio.gather(*[context.write(body) for _ in range(20)], context.write(b""))

    async with paired(Replies=handler) as pair:
        replies = await result(pair.replies(b""))
        assert sorted(map(len, replies)) == [0] + [100_000] * 20


async def test_a_write_that_was_given_up_is_sent_whole_before_the_next(
    virtual_clock: VirtualClock,
) -> None:
    async def handler(request: bytes, context: Any) -> None:
        for _ in range(2):
            await context.write(bytes(200_000))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(context.write(bytes(200_000)), 0.01)
        await context.write(b"next")

    async with paired(Replies=handler) as pair:
        call = pair.replies(b"")
        await virtual_clock.advance(1)  # long enough for it to be given up
        assert [len(reply) async for reply in call] == [200_000] * 3 + [4]


async def test_a_task_of_the_handler_that_writes_when_the_call_has_ended() -> None:
    outcomes: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        async def write() -> None:
            try:
                while True:
                    await context.write(bytes(100_000))
            except BaseException as error:
                outcomes.append(type(error))

        tasks.append(asyncio.ensure_future(write()))
        yield b"x"
        await asyncio.Event().wait()

    async with paired(Replies=handler) as pair:
        call = pair.replies(b"")
        await call.read()
        call.cancel()
        await wait_until(lambda: outcomes)
    assert outcomes == [asyncio.CancelledError]
    assert tasks[0].done()


async def test_a_done_callback_of_a_handler_that_has_ended() -> None:
    contexts: list[Any] = []
    called: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        contexts.append(context)
        return b""

    async with paired(Unary=handler) as pair:
        await pair.unary(b"")
        (context,) = contexts
        context.add_done_callback(called.append)
        await wait_until(lambda: called == [context])
        assert context.done()
        assert not context.cancelled()


# -- context variables ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_context_variables_are_each_calls_own(kind: str) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)
    seen: list[int] = []

    async def handler(request: Any, context: Any) -> bytes:
        seen.append(var.get())
        var.set(var.get() + 1)
        await asyncio.sleep(0)
        seen.append(var.get())
        return b""

    async with paired(**handlers(handler)) as pair:
        await asyncio.gather(*[result(pair.start(kind)) for _ in range(5)])
    assert sorted(seen) == [0] * 5 + [1] * 5
    assert var.get() == 0


# -- all of asyncio, from the first step on ------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_is_a_task(kind: str, waits: bool) -> None:
    tasks: list[Any] = []

    async def handler(request: Any, context: Any) -> bytes:
        tasks.append(asyncio.current_task())
        assert tasks[0] is not None
        if waits:
            await asyncio.sleep(0)
            assert asyncio.current_task() is tasks[0]
            assert tasks[0] in asyncio.all_tasks()
        return b""

    async with paired(**handlers(handler)) as pair:
        await result(pair.start(kind))
        assert len(tasks) == 1
        assert tasks[0] is not asyncio.current_task()


@pytest.mark.parametrize("kind", KINDS)
async def test_timeouts_in_the_first_step(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        if sys.version_info >= (3, 11):
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            async with asyncio.timeout(10):
                await asyncio.sleep(0)
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # it is one
        return b"in time"

    async with paired(**handlers(handler)) as pair:
        assert await result(pair.start(kind)) in (b"in time", [b"in time"])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in Python 3.11")
@pytest.mark.parametrize("kind", KINDS)
async def test_task_groups_in_the_first_step(kind: str) -> None:
    async def answer() -> bytes:
        await asyncio.sleep(0)
        return b"grouped"

    async def fail() -> None:
        raise ValueError

    async def use_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            group.create_task(fail())

    async def handler(request: Any, context: Any) -> bytes:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(answer())
        with pytest.raises(Exception, match="unhandled errors in a TaskGroup"):
            await use_group()
        return task.result()

    async with paired(**handlers(handler)) as pair:
        assert await result(pair.start(kind)) in (b"grouped", [b"grouped"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("swallow", [False, True])
async def test_a_handler_that_cancels_itself_in_the_first_step(kind: str, swallow: bool) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not swallow:
                raise
            if sys.version_info >= (3, 11):
                task.uncancel()
            await asyncio.sleep(0)
            return b"swallowed"
        raise AssertionError("not cancelled")

    async with paired(**handlers(handler)) as pair:
        call = pair.start(kind)
        if swallow:
            assert await result(call) in (b"swallowed", [b"swallowed"])
        else:
            assert (await failure(call)).code() is ps.StatusCode.CANCELLED
        # The next handler is nobody else's task, and not cancelled.
        assert await pair.channel.unary_unary("/test.Service/Missing")(b"").code() is (
            ps.StatusCode.UNIMPLEMENTED
        )


async def test_a_handler_that_cancels_itself_and_returns_at_once() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        else:
            await asyncio.sleep(0)
        return request

    async with paired(Unary=handler) as pair:
        for request in (b"cancel", b"next", b"cancel", b"cancel", b"next"):
            assert await pair.unary(request) == request


async def test_a_task_that_keeps_a_handlers_task_for_later() -> None:
    kept: list[asyncio.Task[Any]] = []

    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"keep":
            task = asyncio.current_task()
            assert task is not None
            kept.append(task)
        else:
            await asyncio.sleep(0)
        return request

    async with paired(Unary=handler) as pair:
        assert await pair.unary(b"keep") == b"keep"
        await asyncio.sleep(0)
        kept[0].cancel()
        for _ in range(3):
            assert await pair.unary(b"other") == b"other"
        await wait_until(kept[0].done)


@pytest.mark.parametrize("what", ["future", "event", "sleep", "queue", "task", "call"])
async def test_whatever_a_handler_waits_for_first(what: str) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        loop = asyncio.get_running_loop()
        if what == "future":
            future = loop.create_future()
            loop.call_soon(future.set_result, b"")
            await future
        elif what == "event":
            event = asyncio.Event()
            loop.call_soon(event.set)
            await event.wait()
        elif what == "sleep":
            await asyncio.sleep(0.001)
        elif what == "queue":
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            loop.call_soon(queue.put_nowait, b"")
            await queue.get()
        elif what == "task":
            await asyncio.ensure_future(asyncio.sleep(0))
        elif request != b"inner":
            return await pairs[0].unary(b"inner")  # type: ignore[no-any-return]  # bytes
        return request

    pairs: list[Any] = []
    async with paired(Unary=handler) as pair:
        pairs.append(pair)
        await asyncio.gather(*[pair.unary(b"x") for _ in range(20)])


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_in_the_same_turn_as_it_was_opened(kind: str) -> None:
    """The opening frame and the cancellation arrive with one read."""
    ended: list[Any] = []
    started: list[Any] = []

    async def handler(request: Any, context: Any) -> bytes:
        started.append(context)
        context.add_done_callback(ended.append)
        await asyncio.Event().wait()
        return b""

    async with paired(**handlers(handler)) as pair:
        await pair.channel.channel_ready()
        calls = [pair.start(kind) for _ in range(10)]
        for call in calls:
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result(calls[0])
        assert await pair.channel.unary_unary("/x/Missing")(b"").code()
        await wait_until(lambda: len(ended) == len(started))
        assert all(context.cancelled() for context in ended)
