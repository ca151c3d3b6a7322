"""What a caller holds: awaiting, reading, writing, iterating, letting go."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from service.pair import KINDS, failure, paired, result
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

STREAMS = ("replies", "both")
WRITERS = ("requests", "both")


async def never(request: Any, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


async def never_any(request: Any, context: Any) -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


class Watch:
    """A handler that tells when it began and how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.requests: list[bytes] = []

    async def replies(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        self.started.set()
        try:
            yield b"first"
            if hasattr(request, "__aiter__"):
                async for each in request:
                    self.requests.append(each)
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def reply(self, requests: Any, context: Any) -> bytes:
        self.started.set()
        try:
            async for each in requests:
                self.requests.append(each)
        finally:
            self.ended.set()
        return b"%d" % len(self.requests)


# -- awaiting ------------------------------------------------------------------------------


async def test_awaiting_twice_gives_the_same_object() -> None:
    method = ps.UnaryUnaryMethod(
        "/test.Service/Unary", ps.BYTES, ps.Marshaller(bytes, lambda body: [body], "list")
    )
    async with paired() as pair:
        for call in (pair.channel.method(method)(b"x"),):
            first = await call
            assert first == [b"x"]
            assert await call is first


@pytest.mark.parametrize("kind", ["unary", "requests"])
async def test_awaiting_a_failure_twice_raises_twice(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        await context.abort(ps.StatusCode.NOT_FOUND, "none")
        return b""

    async with paired(Unary=handler, Requests=handler) as pair:
        call = pair.start(kind)
        for _ in range(2):
            with pytest.raises(ps.AioRpcError, match="NOT_FOUND: none"):
                await call


@pytest.mark.parametrize("kind", ["unary", "requests"])
async def test_several_may_await(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        replies = await asyncio.gather(call, call, asyncio.wait_for(call, 30))
        assert replies == [b"request"] * 3


async def test_calls_are_what_asyncio_takes() -> None:
    async with paired() as pair:
        assert await asyncio.gather(*[pair.unary(b"%d" % i) for i in range(3)]) == [
            b"0",
            b"1",
            b"2",
        ]
        done, _ = await asyncio.wait([asyncio.ensure_future(pair.unary(b"x"))])
        assert done.pop().result() == b"x"
        assert await asyncio.shield(pair.unary(b"y")) == b"y"
        for each in asyncio.as_completed([pair.unary(b"z")]):
            assert await each == b"z"


async def test_wait_for_cancels_the_call() -> None:
    async with paired(Unary=never) as pair:
        call = pair.unary(b"")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.01)
        assert call.cancelled()


async def test_a_call_that_nobody_awaits_runs_to_its_end() -> None:
    seen: list[bytes] = []

    async def handler(request: bytes, context: Any) -> bytes:
        seen.append(request)
        if request == b"bad":
            await context.abort(ps.StatusCode.ABORTED, "nobody cares")
        return b""

    async with paired(Unary=handler) as pair:
        pair.unary(b"good")
        pair.unary(b"bad")
        gc.collect()
        await wait_until(lambda: seen == [b"good", b"bad"])


async def test_code_and_metadata_may_be_awaited_without_the_reply() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("t", "1"),))
        return b""

    async with paired(Unary=handler) as pair:
        call = pair.unary(b"")
        assert not call.done()
        assert await call.trailing_metadata() == ps.Metadata(("t", "1"))
        assert await call.code() is ps.StatusCode.OK
        assert call.done()


@pytest.mark.parametrize("kind", KINDS)
async def test_giving_up_on_the_code_does_not_cancel_the_call(kind: str) -> None:
    release = asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        await release.wait()
        return b"done"

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield await handler(request, context)

    async with paired(Unary=handler, Requests=handler, Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        for question in (call.code, call.trailing_metadata, call.initial_metadata):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(question(), 0.001)
        release.set()
        assert await result(call) in (b"done", [b"done"])


# -- done callbacks ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["good", "bad", "cancel", "deadline"])
async def test_done_callbacks_are_called_once(kind: str, end: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        if end == "bad":
            await context.abort(ps.StatusCode.ABORTED, "")
        elif end != "good":
            await asyncio.Event().wait()
        return b""

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield await handler(request, context)

    called: list[Any] = []
    async with paired(Unary=handler, Requests=handler, Replies=replies, Both=replies) as pair:
        call = pair.start(kind, timeout=0.02 if end == "deadline" else None)
        call.add_done_callback(called.append)
        call.add_done_callback(called.append)
        assert not called
        if end == "cancel":
            call.cancel()
        await call.code()
        await wait_until(lambda: len(called) == 2)
        call.add_done_callback(called.append)
        await wait_until(lambda: len(called) == 3)
        assert all(each is call for each in called)


async def test_done_callback_of_a_call_that_was_dropped() -> None:
    called: list[Any] = []
    async with paired(Replies=never_any) as pair:
        pair.replies(b"").add_done_callback(called.append)
        gc.collect()
        await wait_until(lambda: called)
        assert called[0].cancelled()
        assert await called[0].code() is ps.StatusCode.CANCELLED


async def test_a_callback_that_raises_is_its_own_business(request: Any) -> None:
    async with paired() as pair:
        loop = asyncio.get_running_loop()
        errors: list[Any] = []
        before = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))
        call = pair.unary(b"x")
        call.add_done_callback(lambda _: 1 / 0)
        assert await call == b"x"
        await wait_until(lambda: errors)
        loop.set_exception_handler(before)
        assert isinstance(errors[0], ZeroDivisionError)
        assert await pair.unary(b"y") == b"y"


# -- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
async def test_read_gives_eof_for_ever(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        while await call.read() is not ps.EOF:
            pass
        for _ in range(3):
            assert await call.read() is ps.EOF
        assert not ps.EOF
        assert await call.code() is ps.StatusCode.OK


@pytest.mark.parametrize("kind", STREAMS)
async def test_reading_and_iterating_do_not_mix(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        await call.read()
        with pytest.raises(ps.UsageError, match="may not be mixed"):
            call.__aiter__()
        call = pair.start(kind)
        async for _ in call:
            break
        with pytest.raises(ps.UsageError, match="may not be mixed"):
            await call.read()


@pytest.mark.parametrize("kind", STREAMS)
async def test_iterating_goes_on_where_it_stopped(kind: str) -> None:
    async with paired() as pair:
        call = pair.replies(b"x") if kind == "replies" else pair.both([b"x"] * 3)
        async for _ in call:
            break
        assert await result(call) == [b"x"] * 2
        assert await result(call) == []


@pytest.mark.parametrize("kind", STREAMS)
async def test_several_may_read(kind: str) -> None:
    """Each message goes to one of them, and each of them hears of the end."""
    release = asyncio.Event()

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        await release.wait()
        yield b"a"
        yield b"b"

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        readers = [asyncio.ensure_future(call.read()) for _ in range(4)]
        await asyncio.sleep(0)
        release.set()
        got = await asyncio.gather(*readers)
        assert sorted(got, key=bool) == [ps.EOF, ps.EOF, *sorted(filter(None, got))]
        assert sorted(filter(None, got)) == [b"a", b"b"]


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_reader_that_is_cancelled_cancels_the_call(kind: str) -> None:
    watch = Watch()
    async with paired(Replies=watch.replies, Both=watch.replies) as pair:
        call = pair.start(kind)
        assert await call.read() == b"first"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call.read(), 0.01)
        assert call.cancelled()
        await watch.ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await call.read()


@pytest.mark.parametrize("kind", STREAMS)
async def test_messages_that_came_before_the_end_are_read_first(kind: str) -> None:
    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        await context.abort(ps.StatusCode.ABORTED, "over")

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        assert await call.code() is ps.StatusCode.ABORTED
        assert [await call.read(), await call.read()] == [b"a", b"b"]
        with pytest.raises(ps.AioRpcError, match="over"):
            await call.read()


@pytest.mark.parametrize("kind", STREAMS)
async def test_what_is_cancelled_is_done_whatever_lies_there_unread(kind: str) -> None:
    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        await asyncio.Event().wait()

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        assert await call.read() == b"a"
        await pair.unary(b"behind the second reply")
        assert call.cancel()
        assert call.done()
        assert not call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()


# -- letting go ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STREAMS)
async def test_leaving_the_loop_cancels_the_call(kind: str) -> None:
    watch = Watch()
    async with paired(Replies=watch.replies, Both=watch.replies) as pair:
        async for reply in pair.start(kind):
            assert reply == b"first"
            break
        await watch.ended.wait()


@pytest.mark.parametrize("kind", STREAMS)
async def test_dropping_a_call_cancels_it(kind: str) -> None:
    watch = Watch()
    async with paired(Replies=watch.replies, Both=watch.replies) as pair:
        call = pair.start(kind)
        await watch.started.wait()
        del call
        await watch.ended.wait()


async def test_holding_only_the_iterator_keeps_the_call() -> None:
    async with paired() as pair:
        replies = pair.replies(b"x").__aiter__()
        gc.collect()
        assert [reply async for reply in replies] == [b"x"] * 3


async def test_a_call_dropped_after_its_loop_is_harmless() -> None:
    calls: list[Any] = []

    def run() -> None:
        loop = asyncio.new_event_loop()

        async def use() -> None:
            async with paired(Replies=never_any) as pair:
                calls.append(pair.replies(b""))

        loop.run_until_complete(use())
        loop.close()

    await asyncio.get_running_loop().run_in_executor(None, run)
    calls.clear()
    gc.collect()


# -- writing -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
async def test_writing_after_done_writing(kind: str) -> None:
    async with paired() as pair:
        call = getattr(pair, kind)()
        await call.write(b"a")
        await call.done_writing()
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"b")
        assert await result(call) in (b"a", [b"a"])


@pytest.mark.parametrize("kind", WRITERS)
async def test_writing_to_a_call_with_an_iterator(kind: str) -> None:
    async with paired() as pair:
        call = getattr(pair, kind)([b"a"])
        with pytest.raises(ps.UsageError, match="iterator"):
            await call.write(b"b")
        with pytest.raises(ps.UsageError, match="iterator"):
            await call.done_writing()
        assert await result(call) in (b"a", [b"a"])
        with pytest.raises(ps.UsageError, match="iterator"):
            await call.write(b"b")


@pytest.mark.parametrize("kind", WRITERS)
async def test_writing_to_a_call_that_has_failed(kind: str) -> None:
    async def reply(requests: Any, context: Any) -> bytes:
        await context.abort(ps.StatusCode.ABORTED, "enough")
        return b""

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        await context.abort(ps.StatusCode.ABORTED, "enough")
        yield b""

    async with paired(Requests=reply, Both=replies) as pair:
        call = getattr(pair, kind)()
        await call.code()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"x")
        await call.done_writing()


@pytest.mark.parametrize("kind", WRITERS)
async def test_writing_to_a_call_that_was_cancelled(kind: str) -> None:
    """The task that writes is not the one that was cancelled."""
    async with paired() as pair:
        call = getattr(pair, kind)()
        await call.write(b"x")
        call.cancel()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"x")
        await call.done_writing()


@pytest.mark.parametrize("kind", WRITERS)
async def test_a_call_that_fails_while_it_is_written_to(kind: str) -> None:
    begun = asyncio.Event()

    async def reply(requests: Any, context: Any) -> bytes:
        await begun.wait()
        await context.abort(ps.StatusCode.ABORTED, "enough")
        return b""

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield await reply(requests, context)

    async with paired(Requests=reply, Both=replies) as pair:
        call = getattr(pair, kind)()

        async def write_on() -> None:
            while True:
                await call.write(bytes(100_000))

        writing = asyncio.ensure_future(write_on())
        rpc = getattr(call, "_rpc", call)
        await wait_until(lambda: rpc.send is not None and rpc.send.pending and rpc.send.credit <= 0)
        begun.set()
        with pytest.raises(ps.AioRpcError, match="enough"):
            await writing


@pytest.mark.parametrize("kind", WRITERS)
async def test_writing_to_a_call_that_has_ended_well(kind: str) -> None:
    async def reply(requests: Any, context: Any) -> bytes:
        return b"early"

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"early"

    async with paired(Requests=reply, Both=replies) as pair:
        call = getattr(pair, kind)()
        await call.code()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"x")
        await call.done_writing()
        assert await result(call) in (b"early", [b"early"])
        # And an iterator that goes on is told to stop.
        assert await result(getattr(pair, kind)(iter(lambda: b"x", None))) in (b"early", [b"early"])


@pytest.mark.parametrize("kind", WRITERS)
async def test_several_may_write_and_nothing_is_lost(kind: str) -> None:
    body = bytes(100_000)  # more than one fragment, and all together more than the credit
    counts: list[int] = []

    async def count(requests: Any, context: Any) -> bytes:
        counts.extend([len(request) async for request in requests])
        return b"%d" % len(counts)

    async def echo(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield await count(requests, context)

    async with paired(Requests=count, Both=echo) as pair:
        call = getattr(pair, kind)()
        await asyncio.gather(*[call.write(body) for _ in range(20)], call.write(b""))
        await call.done_writing()
        assert await result(call) in (b"21", [b"21"])
        assert sorted(counts) == [0] + [100_000] * 20


@pytest.mark.parametrize("kind", WRITERS)
async def test_half_closing_waits_for_what_is_being_written(kind: str) -> None:
    async with paired() as pair:
        call = getattr(pair, kind)()
        writing = asyncio.ensure_future(call.write(bytes(1_000_000)))
        await asyncio.sleep(0)
        await call.done_writing()
        await writing
        outcome = await result(call)
        assert len(outcome) == 1_000_000 or [len(reply) for reply in outcome] == [1_000_000]


@pytest.mark.parametrize("kind", WRITERS)
async def test_a_writer_that_is_cancelled_cancels_the_call(kind: str) -> None:
    ended = asyncio.Event()

    async def reply(requests: Any, context: Any) -> bytes:
        context.add_done_callback(lambda _: ended.set())
        await asyncio.Event().wait()
        return b""

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield await reply(requests, context)

    async with paired(Requests=reply, Both=replies) as pair:
        call = getattr(pair, kind)()

        async def write_all() -> None:
            while True:
                await call.write(bytes(100_000))

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(write_all(), 0.05)
        assert call.cancelled()
        await ended.wait()


@pytest.mark.parametrize("kind", WRITERS)
async def test_writing_before_there_is_a_connection(kind: str) -> None:
    async with paired() as pair:
        call = getattr(pair, kind)()
        await asyncio.gather(call.write(b"a"), call.write(b"b"))
        await call.done_writing()
        assert await result(call) in (b"ab", [b"a", b"b"])


# -- request iterators ---------------------------------------------------------------------


class Oddity(BaseException):
    """Not an Exception, and nothing that asyncio knows."""


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("sort", ["async", "sync"])
@pytest.mark.parametrize("error", [ValueError("of mine"), Oddity("odd")])
@pytest.mark.parametrize("after", [0, 2])
async def test_what_an_iterator_raises_the_call_raises(
    kind: str, sort: str, error: BaseException, after: int
) -> None:
    watch = Watch()

    async def generate() -> AsyncIterator[bytes]:
        for _ in range(after):
            yield b"x"
        raise error

    class Iterator:
        left = after

        def __iter__(self) -> Iterator:
            return self

        def __next__(self) -> bytes:
            if not self.left:
                raise error
            self.left -= 1
            return b"x"

    async with paired(Requests=watch.reply, Both=watch.replies) as pair:
        call = getattr(pair, kind)(generate() if sort == "async" else Iterator())
        with pytest.raises(type(error)) as caught:
            await result(call)
        assert caught.value is error
        assert await call.code() is ps.StatusCode.CANCELLED
        assert "the request iterator raised" in await call.details()
        again = await failure(call)
        assert again.code() is ps.StatusCode.CANCELLED
        if watch.started.is_set():
            await watch.ended.wait()


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("requests", [5, object()])
async def test_what_is_no_iterator(kind: str, requests: Any) -> None:
    async with paired() as pair:
        with pytest.raises(TypeError):
            await result(getattr(pair, kind)(requests))


@pytest.mark.parametrize("kind", WRITERS)
async def test_a_request_that_does_not_serialize(kind: str) -> None:
    watch = Watch()
    async with paired(Requests=watch.reply, Both=watch.replies) as pair:
        with pytest.raises(TypeError):
            await result(getattr(pair, kind)([b"fine", "text"]))
        call = getattr(pair, kind)()
        with pytest.raises(TypeError):
            await call.write("text")
        await call.write(b"fine")  # the call is as it was
        call.cancel()


@pytest.mark.parametrize("kind", ["unary", "replies"])
async def test_one_request_that_does_not_serialize(kind: str) -> None:
    async with paired() as pair:
        error = await failure(getattr(pair, kind)("text"))
        assert error.code() is ps.StatusCode.INTERNAL
        assert error.details() == "Exception serializing request!"
        assert isinstance(error.__cause__, TypeError)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reply_that_does_not_parse(kind: str) -> None:
    def parse(body: bytes) -> Any:
        raise ValueError("not what was expected")

    reply = ps.Marshaller(bytes, parse, "reply")
    methods: dict[str, Any] = {
        "unary": ps.UnaryUnaryMethod("/test.Service/Unary", ps.BYTES, reply),
        "replies": ps.UnaryStreamMethod("/test.Service/Replies", ps.BYTES, reply),
        "requests": ps.StreamUnaryMethod("/test.Service/Requests", ps.BYTES, reply),
        "both": ps.StreamStreamMethod("/test.Service/Both", ps.BYTES, reply),
    }
    watch = Watch()
    async with paired(Replies=watch.replies, Both=watch.replies) as pair:
        method = pair.channel.method(methods[kind])
        error = await failure(method(b"x" if kind in ("unary", "replies") else [b"x"]))
        assert error.code() is ps.StatusCode.INTERNAL
        assert error.details() == "Exception deserializing response!"
        assert isinstance(error.__cause__, ValueError)
        if kind in STREAMS:
            await watch.ended.wait()


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("end", ["reply", "abort", "cancel", "deadline"])
async def test_a_request_generator_ends_with_its_call(
    kind: str, end: str, virtual_clock: VirtualClock
) -> None:
    closed: list[bool] = []
    going = asyncio.Event()

    async def generate() -> AsyncIterator[bytes]:
        task = asyncio.current_task()
        try:
            while True:
                yield bytes(50_000)  # soon waits for credit, in the yield
        finally:
            await asyncio.sleep(0)
            closed.append(asyncio.current_task() is task)

    async def reply(requests: Any, context: Any) -> bytes:
        going.set()
        if end == "abort":
            await context.abort(ps.StatusCode.ABORTED, "")
        elif end != "reply":
            await asyncio.Event().wait()
        return b""

    async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
        yield await reply(requests, context)

    async with paired(Requests=reply, Both=replies) as pair:
        call = getattr(pair, kind)(generate(), timeout=0.05 if end == "deadline" else None)
        await going.wait()
        if end == "cancel":
            call.cancel()
        await call.code()
        await wait_until(lambda: closed)
        assert closed == [True]  # where it ran, with its context: not by the collector


async def test_a_request_iterator_waiting_for_itself_is_left_when_the_call_ends() -> None:
    """The iterator waits for something that never comes; the server answers meanwhile."""

    async def generate() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    async def reply(requests: Any, context: Any) -> bytes:
        async for request in requests:
            return bytes(request)
        return b""

    async with paired(Requests=reply) as pair:
        assert await pair.requests(generate()) == b"x"


# -- from several tasks at once ------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in Python 3.11")
@pytest.mark.parametrize("kind", KINDS)
async def test_structured_concurrency(kind: str) -> None:
    started = asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        started.set()
        return await never(request, context)

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield await handler(request, context)

    async with paired(Unary=handler, Requests=handler, Replies=replies, Both=replies) as pair:
        calls: list[Any] = []

        async def use() -> None:
            calls.append(pair.start(kind))
            await result(calls[0])

        async def use_group() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(use())
                await started.wait()
                raise ValueError("of the group")

        with pytest.raises(Exception, match="unhandled errors in a TaskGroup"):
            await use_group()
        assert calls[0].cancelled()
