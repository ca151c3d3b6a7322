"""Calls made inside a handler share its fate: its deadline and its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.service import Serving, Stub, serving
from service.pair import paired

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

TIMEOUT = 20.0


class Inner:
    """A handler that never ends by itself, and tells what became of it."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.time_remaining: float | None = None

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.time_remaining = context.time_remaining()
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return b""

    async def replies(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self(request, context)


class Hop:
    """A server, and a channel to it."""

    def __init__(self, serving: Serving, channel: ps.Channel) -> None:
        self.server = serving.server
        self.stub = Stub(channel)


@asynccontextmanager
async def hop(**handlers: Any) -> AsyncIterator[Hop]:
    """A server and a channel to it."""
    async with serving(**handlers) as server, ps.insecure_channel(server.target) as channel:
        yield Hop(server, channel)


async def assert_code(call: Any, code: ps.StatusCode) -> None:
    with pytest.raises(ps.AioRpcError) as caught:
        await call
    assert caught.value.code() is code


async def test_a_call_inherits_what_is_left_of_the_deadline() -> None:
    async def inner(request: bytes, context: Any) -> bytes:
        return b"%f" % context.time_remaining()

    async with hop(Unary=inner) as back:

        async def outer(request: bytes, context: Any) -> bytes:
            return await back.stub.unary(b"", timeout=1000.0)

        async with hop(Unary=outer) as front:
            assert 0 < float(await front.stub.unary(b"", timeout=TIMEOUT)) < TIMEOUT + 0.001


async def test_a_shorter_timeout_of_the_call_itself_holds() -> None:
    async def inner(request: bytes, context: Any) -> bytes:
        return b"%f" % context.time_remaining()

    async with hop(Unary=inner) as back:

        async def outer(request: bytes, context: Any) -> bytes:
            return await back.stub.unary(b"", timeout=TIMEOUT)

        async with hop(Unary=outer) as front:
            assert 0 < float(await front.stub.unary(b"", timeout=1000.0)) < TIMEOUT + 0.001


async def test_without_a_deadline_none_is_inherited() -> None:
    async def inner(request: bytes, context: Any) -> bytes:
        return str(context.time_remaining()).encode()

    async with hop(Unary=inner) as back:

        async def outer(request: bytes, context: Any) -> bytes:
            return await back.stub.unary(b"")

        async with hop(Unary=outer) as front:
            assert await front.stub.unary(b"") == b"None"


async def test_the_deadline_ends_every_hop(virtual_clock: VirtualClock) -> None:
    inner = Inner()
    async with paired(Unary=inner) as back:

        async def middle(request: bytes, context: Any) -> bytes:
            return await back.unary(b"")

        async with paired(Unary=middle) as second:

            async def outer(request: bytes, context: Any) -> bytes:
                return await second.unary(b"")

            async with paired(Unary=outer) as front:
                call = front.unary(b"", timeout=0.2)
                await assert_code(call, ps.StatusCode.DEADLINE_EXCEEDED)
                await inner.ended.wait()
                assert inner.time_remaining is not None
                assert inner.time_remaining < 0.201


@pytest.mark.parametrize("kind", ["unary", "replies", "requests", "both"])
async def test_cancelling_a_call_cancels_every_hop(kind: str) -> None:
    inner = Inner()
    async with hop(Unary=inner) as back:

        async def middle(request: bytes, context: Any) -> bytes:
            return await back.stub.unary(b"")

        async with hop(Unary=middle) as second:

            async def outer(request: Any, context: Any) -> bytes:
                return await second.stub.unary(b"")

            async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
                yield await second.stub.unary(b"")

            async with hop(Unary=outer, Replies=stream, Requests=outer, Both=stream) as front:
                arguments = (b"",) if kind in ("unary", "replies") else ()
                call = getattr(front.stub, kind)(*arguments)
                await inner.started.wait()
                call.cancel()
                await inner.ended.wait()


async def test_a_call_that_is_not_awaited_is_cancelled_too() -> None:
    inner = Inner()
    async with hop(Unary=inner, Replies=inner.replies) as back:
        calls: list[Any] = []

        async def outer(request: bytes, context: Any) -> bytes:
            calls.append(back.stub.unary(b""))
            calls.append(back.stub.replies(b""))
            await asyncio.Event().wait()
            return b""

        async with hop(Unary=outer) as front:
            call = front.stub.unary(b"")
            await inner.started.wait()
            call.cancel()
            for each in calls:
                assert await each.code() is ps.StatusCode.CANCELLED
            await inner.ended.wait()


async def test_calls_of_tasks_that_the_handler_started_are_cancelled() -> None:
    inner = Inner()
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    async with hop(Unary=inner) as back:

        async def in_a_task() -> None:
            try:
                outcome.set_result(await back.stub.unary(b""))
            except BaseException as error:
                outcome.set_result(error)

        tasks: list[asyncio.Task[None]] = []

        async def outer(request: bytes, context: Any) -> bytes:
            tasks.append(asyncio.create_task(in_a_task()))
            await asyncio.Event().wait()
            return b""

        async with hop(Unary=outer) as front:
            call = front.stub.unary(b"")
            await inner.started.wait()
            call.cancel()
            error = await outcome
            # The task itself was not cancelled, so that is not what it is told.
            assert isinstance(error, ps.AioRpcError)
            assert error.code() is ps.StatusCode.CANCELLED
            await inner.ended.wait()


async def test_a_call_made_after_the_cancellation_ends_at_once() -> None:
    codes: list[ps.StatusCode] = []
    done = asyncio.Event()
    async with hop() as back:
        started = asyncio.Event()

        async def outer(request: bytes, context: Any) -> bytes:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                codes.append(await back.stub.unary(b"").code())
                done.set()
            return b""

        async with hop(Unary=outer) as front:
            call = front.stub.unary(b"")
            await started.wait()
            call.cancel()
            await done.wait()
    assert codes == [ps.StatusCode.CANCELLED]


async def test_losing_the_client_cancels_calls() -> None:
    inner = Inner()
    async with hop(Unary=inner) as back:

        async def outer(request: bytes, context: Any) -> bytes:
            return await back.stub.unary(b"")

        async with serving(Unary=outer) as server:
            async with ps.insecure_channel(server.target) as channel:
                call = Stub(channel).unary(b"")
                await inner.started.wait()
            assert call.done()
            await inner.ended.wait()


async def test_a_call_may_outlive_a_handler_that_ended_well() -> None:
    release = asyncio.Event()

    async def inner(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    async with hop(Unary=inner) as back:
        calls: list[Any] = []
        later: list[asyncio.Task[bytes]] = []

        async def make_another() -> bytes:
            await release.wait()
            return await back.stub.unary(b"later")

        async def outer(request: bytes, context: Any) -> bytes:
            calls.append(back.stub.unary(b"earlier"))
            later.append(asyncio.create_task(make_another()))
            return b"done"

        async with hop(Unary=outer) as front:
            assert await front.stub.unary(b"") == b"done"
            release.set()
            assert await calls[0] == b"earlier"
            assert await later[0] == b"later"


async def test_detached_calls_inherit_nothing() -> None:
    release = asyncio.Event()
    remaining: list[float | None] = []

    async def inner(request: bytes, context: Any) -> bytes:
        remaining.append(context.time_remaining())
        await release.wait()
        return request

    async with hop(Unary=inner) as back:
        calls: list[Any] = []
        made = asyncio.Event()

        async def audit() -> bytes:
            return await back.stub.unary(b"task")

        async def outer(request: bytes, context: Any) -> bytes:
            with ps.detached():
                calls.append(back.stub.unary(b"call"))
                calls.append(asyncio.create_task(audit()))
            made.set()
            await asyncio.Event().wait()
            return b""

        async with hop(Unary=outer) as front:
            call = front.stub.unary(b"", timeout=TIMEOUT)
            await made.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            release.set()
            assert await calls[0] == b"call"
            assert await calls[1] == b"task"
    assert remaining == [None, None]


async def test_calls_behind_a_detached_block_inherit_again() -> None:
    async def inner(request: bytes, context: Any) -> bytes:
        return str(context.time_remaining() is None).encode()

    async with hop(Unary=inner) as back:

        async def outer(request: bytes, context: Any) -> bytes:
            with ps.detached():
                first = await back.stub.unary(b"")
            return first + b" " + await back.stub.unary(b"")

        async with hop(Unary=outer) as front:
            assert await front.stub.unary(b"", timeout=TIMEOUT) == b"True False"


@pytest.mark.parametrize("way", ["plain function", "to_thread"])
async def test_calls_of_threads_share_the_fate_of_the_rpc(way: str) -> None:
    """With an event loop of their own, as a plain function has to have to make calls."""
    inner = Inner()
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    here = asyncio.get_running_loop()
    async with serving(Unary=inner) as back:

        async def call() -> bytes:
            async with ps.insecure_channel(back.target) as channel:
                reply: bytes = await Stub(channel).unary(b"")
                return reply

        def plain(request: bytes, context: Any) -> bytes:
            result: Any = b""
            try:
                # Debugging, a loop refuses what is not safe from another thread.
                result = asyncio.run(call(), debug=True)
            except BaseException as error:
                result = error
            here.call_soon_threadsafe(outcome.set_result, result)
            return b""

        async def threading(request: bytes, context: Any) -> bytes:
            return await asyncio.to_thread(plain, request, context)

        async with hop(Unary=plain if way == "plain function" else threading) as front:
            outer = front.stub.unary(b"", timeout=TIMEOUT)
            await inner.started.wait()
            assert inner.time_remaining is not None
            assert inner.time_remaining <= TIMEOUT
            outer.cancel()
            error = await outcome
            assert isinstance(error, ps.AioRpcError)
            assert error.code() is ps.StatusCode.CANCELLED
            await inner.ended.wait()


async def test_a_connection_holds_no_handler() -> None:
    """The connection that a handler's call makes outlives the handler, and must not keep it."""
    import gc

    kinds = []
    async with hop() as back:

        async def outer(request: bytes, context: Any) -> bytes:
            kinds.append(type(context))
            return await back.stub.unary(b"", timeout=TIMEOUT)

        async with hop(Unary=outer) as front:
            await front.stub.unary(b"")
            for _ in range(5):
                await asyncio.sleep(0)
            gc.collect()
            # No weak reference tells: those of the compiled build cannot be referred to by one.
            assert kinds[0] not in map(type, gc.get_objects())


async def test_ended_calls_are_forgotten() -> None:
    """A handler may make any number of calls: none of them is kept once it has ended."""
    async with hop() as back:

        async def outer(requests: Any, context: Any) -> bytes:
            for _ in range(100):
                await back.stub.unary(b"")
            return b"%d" % len(context._calls)

        async with hop(Requests=outer) as front:
            call = front.stub.requests()
            assert await call == b"0"
