"""Calls of all four kinds: messages, metadata, statuses, limits, deadlines, cancellation."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
from service.pair import KINDS, failure, handlers, paired, result
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.errors import AbortError
from protosocket_rpc.testing import VirtualClock

LARGE = 300_000  # several fragments

CODES = [code for code in ps.StatusCode if code is not ps.StatusCode.OK]


# -- messages ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_384, 65_536, 65_537, LARGE])
async def test_all_four_kinds(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    async with paired() as pair:
        for _ in range(2):  # with and without the server's settings
            assert await pair.unary(body) == body
            assert await result(pair.replies(body)) == [body] * 3
            assert await pair.requests([body, b"", body]) == body * 2
            assert await result(pair.both([body, b"", body])) == [body, b"", body]


@pytest.mark.parametrize("kind", ["requests", "both"])
async def test_requests_from_any_iterator(kind: str) -> None:
    async def generate() -> AsyncIterator[bytes]:
        for item in (b"a", b"b"):
            await asyncio.sleep(0)
            yield item

    class Requests:
        def __init__(self) -> None:
            self.left = [b"b", b"a"]

        def __aiter__(self) -> Requests:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    async with paired() as pair:
        for requests in ([b"a", b"b"], (b"a", b"b"), iter([b"a", b"b"]), generate(), Requests()):
            replies = await result(getattr(pair, kind)(requests))
            assert replies in (b"ab", [b"a", b"b"])


async def test_empty_streams() -> None:
    async def nothing(request: Any, context: Any) -> AsyncIterator[bytes]:
        return
        yield b""

    async with paired(Replies=nothing) as pair:
        assert await result(pair.replies(b"")) == []
        assert await pair.requests([]) == b""
        assert await result(pair.both([])) == []


async def test_handlers_that_read_and_write() -> None:
    async def replies(request: bytes, context: Any) -> None:
        for _ in range(3):
            await context.write(request)

    async def requests(unused: Any, context: Any) -> bytes:
        joined = b""
        while (item := await context.read()) is not ps.EOF:
            joined += item
        assert await context.read() is ps.EOF
        return joined

    async def both(unused: Any, context: Any) -> None:
        while (item := await context.read()) is not ps.EOF:
            await context.write(item)

    async with paired(Replies=replies, Requests=requests, Both=both) as pair:
        assert await result(pair.replies(b"x")) == [b"x"] * 3
        assert await pair.requests([b"a", b"b"]) == b"ab"
        assert await result(pair.both([b"a", b"b"])) == [b"a", b"b"]


async def test_bidi_is_a_conversation() -> None:
    async with paired() as pair:
        call = pair.both()
        for item in (b"a", b"b", b"c"):
            await call.write(item)
            assert await call.read() == item
        await call.done_writing()
        assert await call.read() is ps.EOF
        assert await call.code() is ps.StatusCode.OK


async def test_many_calls_at_a_time_come_back_as_they_are_ready() -> None:
    gates = [asyncio.Event() for _ in range(50)]
    order: list[int] = []

    async def wait(request: bytes, context: Any) -> bytes:
        await gates[int(request)].wait()
        return request

    async with paired(Unary=wait) as pair:
        calls = [pair.unary(b"%d" % number) for number in range(50)]
        for number, call in enumerate(calls):
            call.add_done_callback(lambda _, number=number: order.append(number))
        for number in reversed(range(50)):
            gates[number].set()
            assert await calls[number] == b"%d" % number
        await wait_until(lambda: len(order) == 50)
        assert order == list(reversed(range(50)))


async def test_a_thousand_streams_at_a_time() -> None:
    async with paired() as pair:
        calls = [pair.both() for _ in range(1000)]
        for number, call in enumerate(calls):
            await call.write(b"%d" % number)
        for number, call in enumerate(calls):
            assert await call.read() == b"%d" % number
        for call in calls:
            await call.done_writing()
            assert await call.read() is ps.EOF


async def test_a_handler_that_waits_holds_up_nobody() -> None:
    released = asyncio.Event()

    async def slow(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await released.wait()
        yield b"slow"

    async with paired(Replies=slow) as pair:
        slow_calls = [pair.replies(b"") for _ in range(100)]
        for _ in range(20):
            assert await pair.unary(b"fast") == b"fast"
        released.set()
        for call in slow_calls:
            assert await result(call) == [b"slow"]


async def test_a_handler_that_never_waits_holds_up_nobody() -> None:
    stop = False

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while not stop:
            yield b"x"

    async with paired(Replies=endless) as pair:
        call = pair.replies(b"")
        reader = asyncio.ensure_future(result(call))
        for _ in range(20):
            assert await pair.unary(b"fast") == b"fast"
        assert not reader.done()
        stop = True
        assert set(await reader) == {b"x"}


async def test_a_request_iterator_that_never_waits_holds_up_nobody() -> None:
    stop = False

    def endless() -> Any:
        while not stop:
            yield b""

    async def count(requests: Any, context: Any) -> bytes:
        return b"%d" % len([request async for request in requests])

    async with paired(Requests=count) as pair:
        call = pair.requests(endless())
        for _ in range(20):
            assert await pair.unary(b"fast") == b"fast"
        assert not call.done()
        stop = True
        assert int(await call) > 0


# -- metadata ------------------------------------------------------------------------------

PAIRS = (("key", "one"), ("other", "x"), ("key", "two"), ("data-bin", b"\x00\xff"), ("empty", ""))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("good", [True, False])
async def test_metadata_of_all_three_sorts(kind: str, good: bool) -> None:
    seen: list[Any] = []

    async def handler(request: Any, context: Any) -> bytes:
        seen.append(context.invocation_metadata())
        await context.send_initial_metadata(PAIRS)
        context.set_trailing_metadata(reversed(PAIRS))
        assert context.trailing_metadata() == ps.Metadata(*reversed(PAIRS))
        if not good:
            await context.abort(ps.StatusCode.NOT_FOUND, "none")
        return b"reply"

    async with paired(**handlers(handler)) as pair:
        call = pair.start(kind, metadata=PAIRS)
        assert await call.initial_metadata() == ps.Metadata(*PAIRS)
        assert await call.trailing_metadata() == ps.Metadata(*reversed(PAIRS))
        if not good:
            error = await failure(call)
            assert error.initial_metadata() == ps.Metadata(*PAIRS)
            assert error.trailing_metadata() == ps.Metadata(*reversed(PAIRS))
        assert seen == [ps.Metadata(*PAIRS)]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_metadata_is_empty(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        await result(call)
        assert await call.initial_metadata() == ps.Metadata()
        assert await call.trailing_metadata() == ps.Metadata()


async def test_initial_metadata_arrives_before_the_reply() -> None:
    released = asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("early", "yes"),))
        await released.wait()
        return b""

    async with paired(Unary=handler) as pair:
        await pair.channel.channel_ready()
        call = pair.unary(b"")
        assert await call.initial_metadata() == ps.Metadata(("early", "yes"))
        assert not call.done()
        released.set()
        await call


async def test_initial_metadata_of_a_stream_is_known_with_its_first_message() -> None:
    async with paired() as pair:
        call = pair.both()
        await call.write(b"x")
        assert await call.initial_metadata() == ps.Metadata()
        assert not call.done()
        await call.done_writing()
        assert await call.read() == b"x"


async def test_initial_metadata_is_sent_once() -> None:
    caught: list[Exception] = []

    async def handler(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata(())
        try:
            await context.send_initial_metadata(())
        except ps.UsageError as error:
            caught.append(error)
        return b""

    async with paired(Unary=handler) as pair:
        await pair.unary(b"")
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ([("Key", "upper case")], ValueError),
        ([("", "no key")], ValueError),
        ([("key", "\u00e4")], ValueError),
        ([("key", "line\nbreak")], ValueError),
        ([("key", b"\x00")], ValueError),
        ([("key", 5)], TypeError),
        ([("key", None)], TypeError),
        ([(b"key", "x")], TypeError),
        ([("key-bin", "text")], TypeError),
        ([("key",)], TypeError),
        ([5], TypeError),
        ({"key": "x"}, TypeError),
        ("key", TypeError),
    ],
)
async def test_what_is_no_metadata(metadata: Any, error: type[Exception]) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        async def set_trailing(metadata: Any) -> None:
            context.set_trailing_metadata(metadata)

        for use in (context.send_initial_metadata, set_trailing):
            with pytest.raises(error):
                await use(metadata)
        return b"fine"

    async with paired(Unary=handler) as pair:
        for kind in KINDS:
            with pytest.raises(error):
                pair.start(kind, metadata=metadata)
        assert await pair.unary(b"") == b"fine"


# -- statuses ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_every_code_with_its_details(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        code = ps.StatusCode[context.invocation_metadata()["code"]]
        await context.abort(code, f"d\u00e9tails of {code.name}", (("t", code.name.lower()),))
        raise AssertionError("abort has returned")

    async with paired(**handlers(handler)) as pair:
        for code in CODES:
            error = await failure(pair.start(kind, metadata=(("code", code.name),)))
            assert error.code() is code
            assert error.details() == f"d\u00e9tails of {code.name}"
            assert error.trailing_metadata() == ps.Metadata(("t", code.name.lower()))
            copy = pickle.loads(pickle.dumps(error))
            assert (copy.code(), copy.details()) == (error.code(), error.details())
            assert copy.trailing_metadata() == error.trailing_metadata()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_call_is_ok(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        await result(call)
        assert await call.code() is ps.StatusCode.OK
        assert await call.details() == ""
        assert call.done()
        assert not call.cancelled()


@pytest.mark.parametrize("kind", KINDS)
async def test_set_code_is_how_it_ends(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        assert context.code() is ps.StatusCode.OK
        context.set_code(ps.StatusCode.DATA_LOSS)
        context.set_details("gone")
        assert (context.code(), context.details()) == (ps.StatusCode.DATA_LOSS, "gone")
        return b"not seen"

    async with paired(**handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert (error.code(), error.details()) == (ps.StatusCode.DATA_LOSS, "gone")


@pytest.mark.parametrize("kind", KINDS)
async def test_set_code_and_raise(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        context.set_code(ps.StatusCode.OUT_OF_RANGE)
        context.set_details("too far")
        raise ValueError("internal")

    async with paired(**handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert (error.code(), error.details()) == (ps.StatusCode.OUT_OF_RANGE, "too far")


@pytest.mark.parametrize("kind", KINDS)
async def test_set_code_ok_is_ok(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        context.set_code(ps.StatusCode.OK)
        return b"fine"

    async with paired(**handlers(handler)) as pair:
        assert await result(pair.start(kind)) in (b"fine", [b"fine"])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_swallowed_abort_aborts(kind: str) -> None:
    after: list[str] = []

    async def handler(request: Any, context: Any) -> bytes:
        for code in (ps.StatusCode.ABORTED, ps.StatusCode.INTERNAL):
            with pytest.raises(AbortError):
                await context.abort(code, code.name)
            after.append(code.name)
        return b"not seen"

    async with paired(**handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert (error.code(), error.details()) == (ps.StatusCode.ABORTED, "ABORTED")
        await wait_until(lambda: len(after) == 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_abort_that_was_none_still_ends_the_call(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        raise AbortError("of the handler's own")

    async with paired(**handlers(handler)) as pair:
        assert (await failure(pair.start(kind))).code() is ps.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        (ps.StatusCode.OK, "", ValueError),
        (ps.StatusCode.ABORTED, None, TypeError),
        (ps.StatusCode.ABORTED, b"bytes", TypeError),
        ("ABORTED", "", TypeError),
        (None, "", TypeError),
    ],
)
async def test_what_abort_does_not_take(code: Any, details: Any, error: type[Exception]) -> None:
    caught: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            await context.abort(code, details)
        except Exception as raised:
            caught.append(type(raised))
        return b"still here"

    async with paired(Unary=handler) as pair:
        assert await pair.unary(b"") == b"still here"
    assert caught == [error]


async def test_details_that_no_wire_can_carry() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await context.abort(ps.StatusCode.ABORTED, "half a \ud83d pair")
        return b""

    async with paired(Unary=handler) as pair:
        error = await failure(pair.unary(b""))
        assert (error.code(), error.details()) == (ps.StatusCode.ABORTED, "half a ? pair")


@pytest.mark.parametrize("kind", ["replies", "both"])
async def test_replies_before_a_status_are_not_lost(kind: str) -> None:
    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        await context.abort(ps.StatusCode.ABORTED, "enough")

    async with paired(Replies=replies, Both=replies) as pair:
        call = pair.start(kind)
        assert [await call.read(), await call.read()] == [b"1", b"2"]
        for _ in range(2):
            with pytest.raises(ps.AioRpcError, match="enough"):
                await call.read()


# -- what is not there ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/test.Service/Missing", "/missing.Service/Unary", "/", "x"])
async def test_a_method_that_is_not_there(path: str) -> None:
    async with paired() as pair:
        channel = pair.channel
        for call in (
            channel.unary_unary(path)(b""),
            channel.unary_stream(path)(b""),
            channel.stream_unary(path)(iter([b"x"])),
            channel.stream_stream(path)(iter([b"x"])),
        ):
            error = await failure(call)
            assert error.code() is ps.StatusCode.UNIMPLEMENTED
            assert error.details() == "Method not found!"
        assert await pair.unary(b"x") == b"x"


# -- sizes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extra", [1, 100_000, 5_000_000])
async def test_a_request_above_the_servers_limit(kind: str, extra: int) -> None:
    limits = ps.RpcLimits(max_receive_message_size=100_000)
    async with paired(server={"limits": limits}) as pair:
        for _ in range(2):  # whole, and in fragments
            body = bytes(100_000 + extra)
            call = getattr(pair, kind)(body if kind in ("unary", "replies") else iter([body]))
            error = await failure(call)
            assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
            assert "100000" in str(error.details())
            assert "the server's limit (RpcLimits.max_receive_message_size" in str(error.details())
        assert await pair.unary(bytes(100_000)) == bytes(100_000)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extra", [1, 5_000_000])
async def test_a_reply_above_the_clients_limit(kind: str, extra: int) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        return bytes(100_000 + extra)

    limits = ps.RpcLimits(max_receive_message_size=100_000)
    async with paired(channel={"limits": limits}, **handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "100000" in str(error.details())
        assert "the client's limit (RpcLimits.max_receive_message_size" in str(error.details())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_above_the_clients_own_limit(kind: str) -> None:
    async with paired(channel={"limits": ps.RpcLimits(max_send_message_size=10)}) as pair:
        for size, good in ((10, True), (11, False)):
            body = bytes(size)
            call = getattr(pair, kind)(body if kind in ("unary", "replies") else iter([body]))
            if good:
                await result(call)
            else:
                error = await failure(call)
                assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
                assert "Sent message larger than max (11 vs. 10)" in str(error.details())
                assert "the client's limit (RpcLimits.max_send_message_size" in str(error.details())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reply_above_the_servers_own_limit(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        return bytes(11)

    limits = ps.RpcLimits(max_send_message_size=10)
    async with paired(server={"limits": limits}, **handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "Sent message larger than max (11 vs. 10)" in str(error.details())
        assert "the server's limit (RpcLimits.max_send_message_size" in str(error.details())


async def test_limits_as_grpc_names_them() -> None:
    options = [("grpc.max_receive_message_length", 10), ("grpc.something_else", 5)]
    async with paired(server={"options": options}) as pair:
        await pair.unary(bytes(10))
        assert (await failure(pair.unary(bytes(11)))).code() is ps.StatusCode.RESOURCE_EXHAUSTED
    async with paired(
        server={"options": [("grpc.max_receive_message_length", -1)]},
        channel={"options": [("grpc.max_receive_message_length", -1)]},
    ) as pair:
        body = bytes(8 * 1024 * 1024)
        assert await pair.unary(body) == body


@pytest.mark.parametrize("kind", KINDS)
async def test_more_metadata_than_a_side_takes(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        where = context.invocation_metadata().get("where")
        if where == "initial":
            await context.send_initial_metadata((("k", "x" * 1000),))
        elif where == "trailing":
            context.set_trailing_metadata((("k", "x" * 1000),))
        return b""

    limits = {"limits": ps.RpcLimits(max_metadata_size=1000)}
    async with paired(channel=limits, server=limits, **handlers(handler)) as pair:
        for metadata in (
            (("k", "x" * 1000),),
            (("where", "initial"),),
            (("where", "trailing"),),
        ):
            error = await failure(pair.start(kind, metadata=metadata))
            assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
            assert "metadata larger than max (1001 vs. 1000)" in str(error.details())
        await result(pair.start(kind, metadata=(("k", "x" * 999),)))


@pytest.mark.parametrize("kind", KINDS)
async def test_trailers_above_all_limits(kind: str) -> None:
    """More than a frame may have: none of it is taken in, and the call does not end well."""

    async def handler(request: Any, context: Any) -> bytes:
        context.set_trailing_metadata((("k", "x" * 10_000_000),))
        return b""

    async with paired(**handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "(RpcLimits.max_" in str(error.details())
        assert (await pair.channel.unary_unary("/x")(b"").code()) is ps.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("kind", KINDS)
async def test_details_above_the_limit(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        await context.abort(ps.StatusCode.ABORTED, "ä" * 3_000_000)
        return b""

    async with paired(**handlers(handler)) as pair:
        error = await failure(pair.start(kind))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED


# -- deadlines -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_ends_both_sides(kind: str, virtual_clock: VirtualClock) -> None:
    ended = asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        remaining = context.time_remaining()
        assert remaining is not None
        assert 0 < remaining < 0.06
        try:
            await asyncio.Event().wait()
        finally:
            assert context.cancelled()
            ended.set()
        return b""

    async with paired(**handlers(handler)) as pair:
        call = pair.start(kind, timeout=0.05)
        error = await failure(call)
        assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
        assert error.details() == "Deadline Exceeded"
        assert call.time_remaining() == 0
        await ended.wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_deadline_that_is_kept(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind, timeout=30)
        remaining = call.time_remaining()
        assert 0 < remaining < 30.001
        await result(call)
        assert await call.code() is ps.StatusCode.OK


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [0, -1, -1e300, float("-inf")])
async def test_a_deadline_in_the_past(kind: str, timeout: float) -> None:
    async with paired() as pair:
        assert await pair.unary(b"") == b""
        error = await failure(pair.start(kind, timeout=timeout))
        assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [1e9, 1e300, float("inf")])
async def test_a_deadline_that_never_comes(kind: str, timeout: float) -> None:
    async with paired() as pair:
        call = pair.start(kind, timeout=timeout)
        assert call.time_remaining() is None
        await result(call)


async def test_a_timeout_is_a_number() -> None:
    async with paired() as pair:
        for kind in KINDS:
            with pytest.raises(ValueError, match="NaN"):
                pair.start(kind, timeout=float("nan"))
            with pytest.raises(TypeError):
                pair.start(kind, timeout="soon")


async def test_no_deadline() -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Any) -> bytes:
        seen.append(context.time_remaining())
        return b""

    async with paired(Unary=handler) as pair:
        call = pair.unary(b"")
        assert call.time_remaining() is None
        await call
    assert seen == [None]


async def test_a_deadline_while_a_large_reply_is_on_its_way() -> None:
    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(1_000_000)

    async with paired(Replies=handler) as pair:
        call = pair.replies(b"", timeout=0.1)
        with pytest.raises(ps.AioRpcError, match="Deadline Exceeded"):
            assert {len(reply) async for reply in call} == {1_000_000}
        assert await pair.unary(b"x") == b"x"


# -- cancellation --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_a_call_cancels_its_handler(kind: str) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        context.add_done_callback(lambda _: ended.set())
        started.set()
        await asyncio.Event().wait()
        return b""

    async with paired(**handlers(handler)) as pair:
        call = pair.start(kind)
        await started.wait()
        assert call.cancel()
        assert not call.cancel()
        assert call.cancelled()
        assert call.done()
        with pytest.raises(asyncio.CancelledError):
            await result(call)
        assert await call.code() is ps.StatusCode.CANCELLED
        assert await call.details() == "Locally cancelled by application!"
        await ended.wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_cancels_the_call(kind: str) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with paired(**handlers(handler)) as pair:
        call = pair.start(kind)
        task = asyncio.ensure_future(result(call))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.cancelled()
        await ended.wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_cancels(kind: str) -> None:
    async def handler(request: Any, context: Any) -> bytes:
        raise asyncio.CancelledError

    async with paired(**handlers(handler)) as pair:
        # Not the caller's task is cancelled, so it is not CancelledError that it sees.
        error = await failure(pair.start(kind))
        assert error.code() is ps.StatusCode.CANCELLED


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_before_there_is_a_connection(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result(call)
        assert await pair.unary(b"x") == b"x"


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_what_has_ended(kind: str) -> None:
    async with paired() as pair:
        call = pair.start(kind)
        await result(call)
        assert not call.cancel()
        assert not call.cancelled()
        assert await call.code() is ps.StatusCode.OK
