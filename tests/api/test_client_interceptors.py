"""Interceptors of a channel begin when the call is made; what they come to is the call."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from connectivity.service import Stub, serving

import protosocket_rpc as ps


class Unary(ps.UnaryUnaryClientInterceptor):
    """An interceptor of calls with one request and one reply, out of a function."""

    def __init__(self, intercept: Any) -> None:
        self._intercept = intercept

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await self._intercept(continuation, client_call_details, request)


class PassOn(
    ps.UnaryUnaryClientInterceptor,
    ps.UnaryStreamClientInterceptor,
    ps.StreamUnaryClientInterceptor,
    ps.StreamStreamClientInterceptor,
):
    """Gives the call as it is."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)

    intercept_unary_stream = intercept_unary_unary
    intercept_stream_unary = intercept_unary_unary  # type: ignore[assignment]  # other names only
    intercept_stream_stream = intercept_unary_unary  # type: ignore[assignment]  # other names only


@asynccontextmanager
async def intercepted(*interceptors: Any, **handlers: Any) -> AsyncIterator[Stub]:
    async with (
        serving(**handlers) as server,
        ps.insecure_channel(server.target, interceptors=interceptors) as channel,
    ):
        yield Stub(channel)


# -- what comes out at once ----------------------------------------------------------------


async def test_who_only_passes_a_call_on_costs_no_second_one() -> None:
    async with intercepted(PassOn(), PassOn()) as stub:
        unary = stub.unary(b"x", timeout=30)
        assert type(unary) is ps.UnaryUnaryCall
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        unary.add_done_callback(done.set_result)
        assert await unary == b"x"
        assert await done is unary
        replies = stub.replies(b"x")
        assert type(replies) is ps.UnaryStreamCall
        assert [reply async for reply in replies] == [b"x"] * 3
        requests = stub.requests(iter([b"a", b"b"]))
        assert type(requests) is ps.StreamUnaryCall
        assert await requests == b"ab"
        both = stub.both(iter([b"a", b"b"]))
        assert type(both) is ps.StreamStreamCall
        assert [reply async for reply in both] == [b"a", b"b"]
        written = stub.both()
        await written.write(b"a")
        assert await written.read() == b"a"
        await written.done_writing()
        assert await written.read() is ps.EOF


async def test_an_answer_is_there_at_once() -> None:
    async def answer(continuation: Any, details: Any, request: Any) -> Any:
        return b"cached"

    async with intercepted(Unary(answer)) as stub:
        made = stub.unary(b"", timeout=30)
        assert made.done()
        assert not made.cancel()
        assert not made.cancelled()
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        made.add_done_callback(done.set_result)
        assert await done is made
        assert await made == await made == b"cached"
        assert await made.code() is ps.StatusCode.OK


async def test_a_failure_is_there_at_once_and_is_what_awaiting_raises_again_and_again() -> None:
    async def fail(continuation: Any, details: Any, request: Any) -> Any:
        raise LookupError("mine")

    async with intercepted(Unary(fail)) as stub:
        made = stub.unary(b"")
        assert made.done()
        assert not made.cancel()
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        made.add_done_callback(done.set_result)
        assert await done is made
        depths = []
        for _ in range(3):
            with pytest.raises(LookupError, match="mine") as raised:
                await made
            depths.append(len(raised.traceback))
        assert depths[0] == depths[1] == depths[2]
        assert await made.code() is ps.StatusCode.UNKNOWN
        gc.collect()  # nobody has to await a call that failed
        assert stub.unary(b"").done()


async def test_an_interceptor_that_cancels_itself_at_once_cancels_the_call() -> None:
    async def cancel(continuation: Any, details: Any, request: Any) -> Any:
        raise asyncio.CancelledError

    async with intercepted(Unary(cancel)) as stub:
        made = stub.unary(b"")
        assert made.cancelled()
        assert await made.code() is ps.StatusCode.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await made


async def test_the_last_of_several_calls_is_the_one() -> None:
    async def twice(continuation: Any, details: Any, request: Any) -> Any:
        first = await continuation(details, b"first")
        second = await continuation(details, b"second")
        assert await first == b"first"
        return second

    async with intercepted(Unary(twice)) as stub:
        made = stub.unary(b"")
        assert not made.done()
        assert await made == b"second"


async def test_cancelling_a_call_that_waits_for_its_interceptors() -> None:
    ended: list[str] = []

    async def wait(continuation: Any, details: Any, request: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async with intercepted(Unary(wait)) as stub:
        made = stub.unary(b"", timeout=30)
        left = made.time_remaining()
        assert left is not None
        assert 0 < left < 30.001
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        made.add_done_callback(done.set_result)
        code = asyncio.ensure_future(made.code())
        await asyncio.sleep(0)
        assert made.cancel()
        assert not made.cancel()
        assert await done is made
        assert made.cancelled()
        assert await code is ps.StatusCode.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await made
    assert ended == ["ended"]


# -- where they run ------------------------------------------------------------------------


variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_each_runs_in_a_task_and_a_context_of_its_own() -> None:
    tasks: list[Any] = []

    async def look(continuation: Any, details: Any, request: Any) -> Any:
        tasks.append(asyncio.current_task())
        assert variable.get() == "caller's"
        variable.set("interceptor's")
        call = await continuation(details, request)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        tasks.append(asyncio.current_task())
        assert variable.get() == "interceptor's"
        return call

    async with intercepted(Unary(look)) as stub:
        variable.set("caller's")
        caller = asyncio.current_task()
        made = stub.unary(b"x")
        assert asyncio.current_task() is caller
        assert variable.get() == "caller's"
        assert await made == b"x"
        assert tasks[0] is tasks[1]
        assert tasks[0] is not caller


async def test_an_interceptor_may_make_calls_that_are_intercepted() -> None:
    depth: list[bytes] = []

    async def fetch(continuation: Any, details: Any, request: Any) -> Any:
        depth.append(request)
        if len(request) < 3:
            token = stub.unary(request + b"x")
            assert asyncio.current_task() is not caller
            if request:
                return token
            assert await token == b"xxx"
        return await continuation(details, request)

    async with intercepted(Unary(fetch)) as stub:
        caller = asyncio.current_task()
        for _ in range(3):
            assert await stub.unary(b"") == b""
        assert depth == [b"", b"x", b"xx", b"xxx"] * 3


# -- what goes with the call ---------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata", [None, (), (("k", "v"),), [("k", "v")], ps.Metadata(("k", "v"))]
)
@pytest.mark.parametrize("look", [False, True])
async def test_metadata_arrives_whether_or_not_it_was_looked_at(metadata: Any, look: bool) -> None:
    async def pass_on(continuation: Any, details: Any, request: Any) -> Any:
        if look:
            assert details.metadata.get_all("k") == (["v"] if metadata else [])
            details.metadata.add("added", "1")
        return await continuation(details, request)

    async def tell(request: bytes, context: Any) -> bytes:
        received = dict(context.invocation_metadata())
        return f"{received.get('k')} {received.get('added')}".encode()

    async with intercepted(Unary(pass_on), Unary=tell) as stub:
        expected = f"{'v' if metadata else None} {'1' if look else None}".encode()
        assert await stub.unary(b"", metadata=metadata) == expected
        assert await stub.unary(b"", metadata=metadata) == expected


async def test_details_as_an_interceptor_made_them() -> None:
    async def dress(continuation: Any, details: Any, request: Any) -> Any:
        metadata = ps.Metadata(*details.metadata, ("k", "v"))
        return await continuation(details._replace(timeout=30, metadata=metadata), request)

    async def tell(request: bytes, context: Any) -> bytes:
        assert 0 < context.time_remaining() < 30.001
        return str(context.invocation_metadata()["k"]).encode()

    async with intercepted(Unary(dress), PassOn(), Unary=tell) as stub:
        assert await stub.unary(b"") == b"v"


@pytest.mark.parametrize("choice", [ps.Compression.NoCompression, ps.Compression.Deflate])
async def test_an_interceptor_may_choose_the_compression(choice: ps.Compression) -> None:
    seen: list[Any] = []

    async def choose(continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details._replace(compression=choice), request)

    async def note(continuation: Any, details: Any, request: Any) -> Any:
        seen.append(details.compression)
        return await continuation(details, request)

    async with intercepted(Unary(choose), Unary(note)) as stub:
        assert await stub.unary(b"x", compression=ps.Compression.Gzip) == b"x"
    assert seen == [choice]


async def test_a_channel_that_is_closed_takes_no_call() -> None:
    async with intercepted(PassOn()) as stub:
        pass
    with pytest.raises(ps.UsageError):
        await stub.unary(b"")
