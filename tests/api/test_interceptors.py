"""Interceptors of this package's own shape: one function for all four kinds, on either side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from connectivity.service import Stub, serving
from support import wait_until

import protosocket_rpc as ps

KINDS = ["unary", "replies", "requests", "both"]
SIDES = ["client", "server"]


@asynccontextmanager
async def intercepted(side: str, *interceptors: Any, **handlers: Any) -> AsyncIterator[Stub]:
    """A stub whose calls pass through interceptors on one side."""
    on_server = {"interceptors": list(interceptors)} if side == "server" else {}
    on_client = list(interceptors) if side == "client" else []
    async with (
        serving(options=on_server, **handlers) as server,
        ps.insecure_channel(server.target, interceptors=on_client) as channel,
    ):
        yield Stub(channel)


async def stream(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def call(stub: Stub, kind: str, *messages: bytes, **options: Any) -> list[bytes]:
    """Make a call of any kind: the replies."""
    method = getattr(stub, kind)
    request = stream(*messages) if kind in ("requests", "both") else messages[0]
    made = method(request, **options)
    if kind in ("replies", "both"):
        return [reply async for reply in made]
    return [await made]


# -- what they see -------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
async def test_one_function_sees_all_of_every_kind(side: str, kind: str) -> None:
    """Pain 8: the request, the response, the metadata and the status, in one place."""
    seen: list[Any] = []

    async def watch(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        seen.append((call.method, call.metadata["who"]))

        def see(request: bytes) -> bytes:
            seen.append(("request", request))
            return request

        call.map_requests(see)
        async for reply in next(call):
            seen.append(("reply", reply))
            yield reply
        seen.append((call.code, call.initial_metadata["i"], call.trailing_metadata["t"]))

    async def tell(context: Any) -> None:
        await context.send_initial_metadata([("i", "1")])
        context.set_trailing_metadata([("t", "2")])

    async def unary(request: bytes, context: Any) -> bytes:
        await tell(context)
        return request

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await tell(context)
        yield request
        yield request

    async def requests(messages: AsyncIterator[bytes], context: Any) -> bytes:
        await tell(context)
        return b"".join([message async for message in messages])

    async def both(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        await tell(context)
        async for message in messages:
            yield message

    handlers = {"Unary": unary, "Replies": replies, "Requests": requests, "Both": both}
    async with intercepted(side, watch, **handlers) as stub:
        received = await call(stub, kind, b"a", metadata=[("who", "me")])
        await wait_until(lambda: isinstance(seen[-1][0], ps.StatusCode))
    assert received == ([b"a", b"a"] if kind == "replies" else [b"a"])
    assert seen == [
        (f"/test.Service/{kind.capitalize()}", "me"),
        ("request", b"a"),
        *[("reply", reply) for reply in received],
        (ps.StatusCode.OK, "1", "2"),
    ]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
async def test_failure_of_every_kind_is_seen(side: str, kind: str) -> None:
    seen: list[Any] = []

    async def watch(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        try:
            async for reply in next(call):
                yield reply
        except BaseException as error:
            seen.append((type(error).__name__, call.code, call.details))
            raise

    async def abort(request: Any, context: Any) -> Any:
        await context.abort(ps.StatusCode.NOT_FOUND, "no such thing")

    async with intercepted(side, watch, **{kind.capitalize(): abort}) as stub:
        with pytest.raises(ps.AioRpcError) as raised:
            await call(stub, kind, b"a")
    assert raised.value.code() is ps.StatusCode.NOT_FOUND
    name = "AioRpcError" if side == "client" else "AbortError"
    assert seen == [(name, ps.StatusCode.NOT_FOUND, "no such thing")]


async def test_server_sees_the_status_that_an_exception_becomes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Any] = []

    async def watch(call: ps.ServerInvocation, next: ps.Next) -> AsyncIterator[Any]:
        try:
            async for reply in next(call):
                yield reply
        except LookupError:
            seen.append(call.code)
            raise

    async def fail(request: Any, context: Any) -> bytes:
        raise LookupError("secret")

    async with intercepted("server", watch, Unary=fail) as stub:
        with pytest.raises(ps.AioRpcError) as raised:
            await stub.unary(b"")
    assert seen == [ps.StatusCode.UNKNOWN]
    assert "secret" not in str(raised.value)
    assert "secret" in caplog.text


# -- what they can do ----------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
async def test_requests_and_replies_can_be_changed(side: str, kind: str) -> None:
    async def shout(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        call.map_requests(bytes.upper)
        async for reply in next(call):
            yield reply + b"!"

    async with intercepted(side, shout) as stub:
        received = await call(stub, kind, b"a")
    assert received == [b"A!"] * (3 if kind == "replies" else 1)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_can_be_refused(side: str, kind: str) -> None:
    async def refuse(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        await call.abort(ps.StatusCode.UNAUTHENTICATED, "who are you?")
        yield

    async with intercepted(side, refuse) as stub:
        with pytest.raises(ps.AioRpcError) as raised:
            await call(stub, kind, b"a")
    assert raised.value.code() is ps.StatusCode.UNAUTHENTICATED
    assert raised.value.details() == "who are you?"


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_refusal_is_seen_further_out(side: str, kind: str) -> None:
    seen: list[Any] = []

    async def watch(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        try:
            async for reply in next(call):
                yield reply
        finally:
            seen.append((call.code, call.details))

    async def refuse(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        await call.abort(ps.StatusCode.PERMISSION_DENIED, "not you")
        yield

    async with intercepted(side, watch, refuse) as stub:
        with pytest.raises(ps.AioRpcError):
            await call(stub, kind, b"a")
    assert seen == [(ps.StatusCode.PERMISSION_DENIED, "not you")]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
async def test_calls_can_be_answered_without_being_made(side: str, kind: str) -> None:
    async def answer(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        yield b"cached"

    async with intercepted(side, answer) as stub:
        assert await call(stub, kind, b"a") == [b"cached"]


@pytest.mark.parametrize("side", SIDES)
async def test_errors_can_be_turned_into_replies(side: str) -> None:
    async def fall_back(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        try:
            async for reply in next(call):
                yield reply
        except (ps.AioRpcError, LookupError):
            yield b"default"

    async def fail(request: bytes, context: Any) -> bytes:
        if side == "client":
            await context.abort(ps.StatusCode.NOT_FOUND, "")
        raise LookupError

    async with intercepted(side, fall_back, Unary=fail) as stub:
        made = stub.unary(b"")
        assert await made == b"default"
        assert await made.code() is ps.StatusCode.OK


async def test_client_can_try_again() -> None:
    attempts = 0

    async def retry(call: ps.ClientInvocation, next: ps.Next) -> AsyncIterator[Any]:
        with contextlib.suppress(ps.AioRpcError):
            async for reply in next(call):
                yield reply
            return
        async for reply in next(call):
            yield reply

    async def flaky(request: bytes, context: Any) -> bytes:
        nonlocal attempts
        attempts += 1
        if attempts < 2:
            await context.abort(ps.StatusCode.UNAVAILABLE, "not yet")
        return request

    async with intercepted("client", retry, Unary=flaky) as stub:
        assert await stub.unary(b"x") == b"x"
    assert attempts == 2


async def test_client_can_change_what_goes_with_the_call() -> None:
    async def dress(call: ps.ClientInvocation, next: ps.Next) -> AsyncIterator[Any]:
        call.metadata.add("token", "t")
        call.timeout = 30
        async for reply in next(call):
            yield reply

    async def unary(request: bytes, context: Any) -> bytes:
        assert 0 < context.time_remaining() < 30.001
        return str(context.invocation_metadata()["token"]).encode()

    async with intercepted("client", dress, Unary=unary) as stub:
        assert await stub.unary(b"") == b"t"


@pytest.mark.parametrize("side", SIDES)
async def test_the_first_one_is_the_outermost(side: str) -> None:
    def named(name: bytes) -> ps.Interceptor:
        async def wrap(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
            call.map_requests(lambda request: request + name)
            async for reply in next(call):
                yield reply + name

        return wrap

    async with intercepted(side, named(b"1"), named(b"2")) as stub:
        assert await stub.unary(b"") == b"1221"


async def test_both_sides_may_use_the_same_one() -> None:
    async def wrap(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        async for reply in next(call):
            yield b"(" + reply + b")"

    async with (
        serving(options={"interceptors": [wrap]}) as server,
        ps.insecure_channel(server.target, interceptors=[wrap]) as channel,
    ):
        assert await Stub(channel).unary(b"x") == b"((x))"


class Counting:
    """A class may be an interceptor, too."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        self.calls += 1
        async for reply in next(call):
            yield reply


@pytest.mark.parametrize("side", SIDES)
async def test_an_object_with_state(side: str) -> None:
    counting = Counting()
    async with intercepted(side, counting) as stub:
        for kind in KINDS:
            await call(stub, kind, b"x")
    assert counting.calls == 4


# -- what handlers see ---------------------------------------------------------------------

user: ContextVar[str] = ContextVar("user")


@pytest.mark.parametrize("kind", KINDS)
async def test_context_variables_reach_the_handler(kind: str) -> None:
    async def authenticate(call: ps.ServerInvocation, next: ps.Next) -> AsyncIterator[Any]:
        user.set("alice")
        async for reply in next(call):
            yield reply

    async def one(request: Any, context: Any) -> bytes:
        return user.get().encode()

    async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield user.get().encode()

    handler = many if kind in ("replies", "both") else one
    async with intercepted("server", authenticate, **{kind.capitalize(): handler}) as stub:
        assert await call(stub, kind, b"") == [b"alice"]


async def test_what_a_handler_reads_and_writes_passes_through_as_well() -> None:
    async def shout(call: ps.ServerInvocation, next: ps.Next) -> AsyncIterator[Any]:
        call.map_requests(bytes.upper)
        async for reply in next(call):
            yield reply + b"!"

    async def echo(messages: Any, context: Any) -> None:
        while (message := await context.read()) is not ps.EOF:
            await context.write(message)

    async with intercepted("server", shout, Both=echo) as stub:
        assert await call(stub, "both", b"a", b"b") == [b"A!", b"B!"]


async def test_handler_that_writes_can_fail() -> None:
    async def watch(call: ps.ServerInvocation, next: ps.Next) -> AsyncIterator[Any]:
        async for reply in next(call):
            yield reply

    async def write(request: bytes, context: Any) -> None:
        await context.write(b"1")
        await context.abort(ps.StatusCode.DATA_LOSS, "")

    async with intercepted("server", watch, Replies=write) as stub:
        made = stub.replies(b"")
        assert await made.read() == b"1"
        with pytest.raises(ps.AioRpcError, match="DATA_LOSS"):
            await made.read()


# -- cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_an_intercepted_call_reaches_interceptor_and_handler(kind: str) -> None:
    events: list[str] = []
    started = asyncio.Event()

    def named(name: str) -> ps.Interceptor:
        async def watch(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
            try:
                async for reply in next(call):
                    yield reply
            finally:
                events.append(name)

        return watch

    async def one(request: Any, context: Any) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.append("handler")
        return b""

    async def many(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await one(request, context)

    handler = many if kind in ("replies", "both") else one
    async with (
        serving(
            options={"interceptors": [named("server")]}, **{kind.capitalize(): handler}
        ) as server,
        ps.insecure_channel(server.target, interceptors=[named("client")]) as channel,
    ):
        method = getattr(Stub(channel), kind)
        made = method() if kind in ("requests", "both") else method(b"")
        await started.wait()
        assert made.cancel()
        assert not made.cancel()
        with pytest.raises(asyncio.CancelledError):
            await (made.read() if kind in ("replies", "both") else made)
        assert made.cancelled()
        assert await made.code() is ps.StatusCode.CANCELLED
        assert await made.details() == "Locally cancelled by application!"
    assert sorted(events) == ["client", "handler", "server"]


async def test_cancelling_who_waits_cancels_the_rpc() -> None:
    started = asyncio.Event()
    ended = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with intercepted("client", Counting(), Unary=wait) as stub:

        async def caller() -> None:
            await stub.unary(b"")

        task = asyncio.ensure_future(caller())
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await ended.wait()


async def test_generators_are_closed_from_the_outermost_on_in_the_rpcs_own_context() -> None:
    closed: list[str] = []
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def named(name: str) -> ps.Interceptor:
        async def watch(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
            variable.set("set")
            task = asyncio.current_task()
            try:
                async for reply in next(call):
                    yield reply
            finally:
                await asyncio.sleep(0)
                assert asyncio.current_task() is task  # not the collector's
                closed.append(f"{name} {variable.get()}")

        return watch

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async with intercepted("server", named("outer"), named("inner"), Replies=endless) as stub:
        made = stub.replies(b"")
        await made.read()
        made.cancel()
    assert closed in (["outer set", "inner set"], ["inner set", "outer set"])


# -- a call that is intercepted is a call --------------------------------------------------


async def test_intercepted_call_has_the_surface_of_a_call() -> None:
    async with intercepted("client", Counting()) as stub:
        made = stub.unary(b"x", timeout=30)
        done: list[Any] = []
        made.add_done_callback(done.append)
        left = made.time_remaining()
        assert left is not None
        assert 0 < left < 30.001
        assert not made.done()
        assert await made == b"x"
        assert await made == b"x"
        assert made.done()
        assert not made.cancelled()
        assert not made.cancel()
        assert await made.code() is ps.StatusCode.OK
        assert await made.details() == ""
        assert "method=/test.Service/Unary" in made.debug_error_string()
        await made.wait_for_connection()
        await wait_until(lambda: done)
        assert done == [made]
        made.add_done_callback(done.append)
        await wait_until(lambda: len(done) == 2)


async def test_requests_can_be_written_through_interceptors() -> None:
    async with intercepted("client", Counting()) as stub:
        upload = stub.requests()
        for message in (b"a", b"b"):
            await upload.write(message)
        await upload.done_writing()
        await upload.done_writing()
        assert await upload == b"ab"
        with pytest.raises(asyncio.InvalidStateError):
            await upload.write(b"c")
        chat = stub.both()
        for message in (b"a", b"b"):
            await chat.write(message)
            assert await chat.read() == message
        await chat.done_writing()
        assert await chat.read() is ps.EOF
        assert await chat.read() is ps.EOF
        with pytest.raises(ps.UsageError):
            chat.__aiter__()
        with pytest.raises(ps.UsageError):
            await stub.both(stream(b"x")).write(b"y")


async def test_write_after_the_server_has_ended_the_call() -> None:
    async def refuse(messages: Any, context: Any) -> bytes:
        await context.abort(ps.StatusCode.RESOURCE_EXHAUSTED, "enough")
        return b""

    async with intercepted("client", Counting(), Requests=refuse) as stub:
        upload = stub.requests()
        assert await upload.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(asyncio.InvalidStateError):
            await upload.write(b"x")
        await upload.done_writing()


async def test_write_after_the_call_was_cancelled() -> None:
    """The task that writes is not the one that was cancelled."""
    async with intercepted("client", Counting()) as stub:
        upload = stub.requests()
        await upload.write(b"x")
        upload.cancel()
        with pytest.raises(asyncio.InvalidStateError):
            await upload.write(b"x")


async def test_write_after_an_interceptor_has_failed() -> None:
    async def broken(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        raise LookupError("mine")
        yield

    async with intercepted("client", broken) as stub:
        upload = stub.requests()
        with pytest.raises(LookupError, match="mine"):
            await upload.write(b"x")
        await upload.done_writing()


async def test_several_may_read_and_each_hears_of_the_end() -> None:
    release = asyncio.Event()

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        await release.wait()
        yield b"a"

    async with intercepted("client", Counting(), Replies=replies) as stub:
        call = stub.replies(b"")
        readers = [asyncio.ensure_future(call.read()) for _ in range(3)]
        await asyncio.sleep(0)
        release.set()
        assert sorted(await asyncio.gather(*readers), key=bool) == [ps.EOF, ps.EOF, b"a"]


async def test_a_dropped_stream_is_cancelled_whoever_waits_for_its_end() -> None:
    ended = asyncio.Event()
    done: list[Any] = []

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        context.add_done_callback(lambda _: ended.set())
        yield b"a"
        await asyncio.Event().wait()

    async with intercepted("client", Counting(), Replies=replies) as stub:
        call = stub.replies(b"")
        call.add_done_callback(done.append)
        assert await call.read() == b"a"
        call.add_done_callback(done.append)
        del call
        await ended.wait()
        await wait_until(lambda: len(done) == 2)
        for each in done:
            assert each.done()
            assert each.cancelled()
            assert await each.code() is ps.StatusCode.CANCELLED
            with pytest.raises(asyncio.CancelledError):
                await each.read()


async def test_error_in_the_request_iterator_is_what_the_call_raises() -> None:
    """Pain 7, through interceptors."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"one"
        raise LookupError("mine")

    async with intercepted("client", Counting()) as stub:
        with pytest.raises(LookupError, match="mine"):
            await stub.requests(broken())
        with pytest.raises(LookupError, match="mine"):
            async for _ in stub.both(broken()):
                pass


async def test_exception_of_an_interceptor_is_what_the_call_raises() -> None:
    async def broken(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        raise LookupError("mine")
        yield

    async with intercepted("client", broken) as stub:
        for kind in KINDS:
            with pytest.raises(LookupError, match="mine"):
                await call(stub, kind, b"x")
        made = stub.unary(b"")
        assert await made.code() is ps.StatusCode.UNKNOWN
        assert "LookupError" in await made.details()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("replies", "text"), [(0, "no reply"), (2, "more than one reply")])
async def test_one_reply_has_to_come_out(
    side: str, replies: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrong(call: ps.Invocation, next: ps.Next) -> AsyncIterator[Any]:
        for _ in range(replies):
            yield b""

    async with intercepted(side, wrong) as stub:
        with pytest.raises((TypeError, ps.AioRpcError)) as raised:
            await stub.unary(b"")
    assert text in (str(raised.value) if side == "client" else caplog.text)


async def test_intercepted_stream_that_is_dropped_is_cancelled() -> None:
    ended = asyncio.Event()

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            ended.set()

    async with intercepted("client", Counting(), Replies=endless) as stub:
        made = stub.replies(b"")
        await made.read()
        del made
        await ended.wait()


# -- without them --------------------------------------------------------------------------


async def test_without_interceptors_nothing_is_in_the_way() -> None:
    async with serving() as server, ps.insecure_channel(server.target) as channel:
        assert type(Stub(channel).unary(b"")) is ps.UnaryUnaryCall
        await Stub(channel).unary(b"")


def test_what_is_no_interceptor_is_refused() -> None:
    with pytest.raises(ValueError, match="no client interceptor"):
        ps.insecure_channel("localhost:1", interceptors=[None])  # type: ignore[list-item]  # the point
    with pytest.raises(ValueError, match="no server interceptor"):
        ps.server(interceptors=[None])  # type: ignore[list-item]  # the point
