"""Handlers of every kind: coroutines, async generators, plain functions, generators in threads."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from connectivity.service import Stub, serving
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.service.sync_handlers import _Handoff

Context = ps.ServicerContext[bytes, bytes]
SyncContext = ps.SyncServicerContext


@asynccontextmanager
async def stub(options: dict[str, Any] | None = None, **handlers: Any) -> AsyncIterator[Stub]:
    async with (
        serving(options=options, **handlers) as server,
        ps.insecure_channel(server.target) as channel,
    ):
        yield Stub(channel)


async def requests(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


# -- plain functions -----------------------------------------------------------------------


async def test_plain_function_runs_in_a_thread() -> None:
    def unary(request: bytes, context: SyncContext) -> bytes:
        return request + threading.current_thread().name[:4].encode()

    loop_thread = threading.current_thread().name
    pool = ThreadPoolExecutor(1, thread_name_prefix="mine")
    async with stub({"migration_thread_pool": pool}, Unary=unary) as each:
        assert await each.unary(b"in ") == b"in mine"
    assert not loop_thread.startswith("mine")
    pool.shutdown()


async def test_plain_function_runs_in_the_loops_own_pool_by_default() -> None:
    threads: list[threading.Thread] = []

    def unary(request: bytes, context: SyncContext) -> bytes:
        threads.append(threading.current_thread())
        return request

    async with stub(Unary=unary) as each:
        await each.unary(b"")
    assert threads[0] is not threading.current_thread()


async def test_generator_streams_from_a_thread() -> None:
    def replies(request: bytes, context: SyncContext) -> Iterator[bytes]:
        for index in range(100):
            yield request + str(index).encode()

    async with stub(Replies=replies) as each:
        received = [reply async for reply in each.replies(b"#")]
    assert received == [f"#{index}".encode() for index in range(100)]


async def test_plain_function_may_return_any_iterable_of_replies() -> None:
    async with stub(Replies=lambda request, context: [request, request]) as each:
        assert [reply async for reply in each.replies(b"x")] == [b"x", b"x"]


async def test_plain_functions_iterate_over_request_streams() -> None:
    def join(messages: Iterator[bytes], context: SyncContext) -> bytes:
        return b"".join(messages)

    def upper(messages: Iterator[bytes], context: SyncContext) -> Iterator[bytes]:
        for message in messages:
            yield message.upper()

    async with stub(Requests=join, Both=upper) as each:
        assert await each.requests(requests(b"a", b"b")) == b"ab"
        assert [reply async for reply in each.both(requests(b"a", b"b"))] == [b"A", b"B"]


async def test_a_bidi_thread_and_its_client_take_turns() -> None:
    def echo(messages: Iterator[bytes], context: SyncContext) -> Iterator[bytes]:
        yield from messages

    async with stub(Both=echo) as each:
        call = each.both()
        for index in range(10):
            await call.write(str(index).encode())
            assert await call.read() == str(index).encode()
        await call.done_writing()
        assert await call.read() is ps.EOF


async def test_partials_and_callable_objects_are_what_they_wrap() -> None:
    async def coroutine(prefix: bytes, request: bytes, context: Context) -> bytes:
        return prefix + request

    class Handler:
        async def __call__(self, request: bytes, context: Context) -> bytes:
            return request + threading.current_thread().name.encode()

    async with stub(Unary=partial(coroutine, b">")) as each:
        assert await each.unary(b"x") == b">x"
    async with stub(Unary=Handler()) as each:
        assert await each.unary(b"") == threading.current_thread().name.encode()


async def test_plain_function_that_gives_a_coroutine_is_explained_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(request: bytes, context: Context) -> bytes:
        return request

    async with stub(Unary=lambda request, context: answer(request, context)) as each:
        with pytest.raises(ps.AioRpcError) as raised:
            await each.unary(b"")
    assert raised.value.code() is ps.StatusCode.UNKNOWN
    assert "make it `async def`" in caplog.text


@pytest.mark.parametrize("kind", ["Unary", "Replies"])
async def test_what_a_thread_raises_stays_on_the_server(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: bytes, context: SyncContext) -> Any:
        raise LookupError("secret")

    async with stub(**{kind: fail}) as each:
        call = each.unary(b"") if kind == "Unary" else each.replies(b"")
        assert await call.code() is ps.StatusCode.UNKNOWN
        assert "secret" not in await call.details()
    assert "LookupError: secret" in caplog.text


async def test_stop_iteration_out_of_a_plain_function_is_an_error() -> None:
    def unary(request: bytes, context: SyncContext) -> bytes:
        return next(iter([]))

    async with stub(Unary=unary) as each:
        assert await each.unary(b"").code() is ps.StatusCode.UNKNOWN


# -- context variables ---------------------------------------------------------------------

tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


async def test_context_variables_are_carried_over_to_the_thread() -> None:
    async def set_tenant(call: ps.ServerInvocation, next: ps.Next) -> AsyncIterator[Any]:
        tenant.set("acme")
        async for reply in next(call):
            yield reply

    def unary(request: bytes, context: SyncContext) -> bytes:
        return tenant.get().encode()

    def replies(request: bytes, context: SyncContext) -> Iterator[bytes]:
        yield tenant.get().encode()

    async with stub({"interceptors": [set_tenant]}, Unary=unary, Replies=replies) as each:
        assert await each.unary(b"") == b"acme"
        assert [reply async for reply in each.replies(b"")] == [b"acme"]
    assert tenant.get() == "nobody"


# -- the context of a thread ---------------------------------------------------------------


async def test_sync_context_does_what_the_other_does() -> None:
    def unary(request: bytes, context: SyncContext) -> bytes:
        assert context.is_active()
        assert context.invocation_metadata()["ask"] == "please"
        assert context.peer().startswith("ipv4:127.0.0.1:")
        assert context.peer_identities() is None
        assert context.peer_identity_key() is None
        assert context.auth_context()["transport_security_type"] == [b"insecure"]
        left = context.time_remaining()
        assert left is not None
        assert 0 < left < 30.001
        context.send_initial_metadata([("first", "1")])
        context.set_trailing_metadata([("last", "2")])
        assert context.trailing_metadata()["last"] == "2"
        context.set_code(ps.StatusCode.NOT_FOUND)
        context.set_details("nothing here")
        assert (context.code(), context.details()) == (ps.StatusCode.NOT_FOUND, "nothing here")
        return request

    async with stub(Unary=unary) as each:
        call = each.unary(b"", metadata=[("ask", "please")], timeout=30)
        assert await call.code() is ps.StatusCode.NOT_FOUND
        assert await call.details() == "nothing here"
        assert (await call.initial_metadata())["first"] == "1"
        assert (await call.trailing_metadata())["last"] == "2"


async def test_abort_in_a_thread_ends_the_rpc_even_if_it_is_swallowed() -> None:
    left: list[BaseException] = []

    def unary(request: bytes, context: SyncContext) -> bytes:
        try:
            context.abort(ps.StatusCode.ABORTED, "no", [("why", "because")])
        except Exception as error:
            left.append(error)
        return b"too late"

    async with stub(Unary=unary) as each:
        with pytest.raises(ps.AioRpcError) as raised:
            await each.unary(b"")
    assert (raised.value.code(), raised.value.details()) == (ps.StatusCode.ABORTED, "no")
    assert raised.value.trailing_metadata()["why"] == "because"
    assert isinstance(left[0], ps.AbortError)


async def test_thread_learns_that_its_rpc_was_cancelled_and_stop_waits_for_it() -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    seen: list[str] = []

    def unary(request: bytes, context: SyncContext) -> bytes:
        ended = threading.Event()
        assert context.add_callback(ended.set)
        loop.call_soon_threadsafe(started.set)
        ended.wait()
        seen.append("active" if context.is_active() else "ended")
        assert not context.add_callback(ended.set)
        return request

    async with stub(Unary=unary) as each:
        call = each.unary(b"")
        await started.wait()
        call.cancel()
    assert seen == ["ended"]


async def test_thread_that_waits_for_requests_is_woken_when_its_rpc_ends() -> None:
    raised: list[type[BaseException]] = []
    reading = asyncio.Event()
    loop = asyncio.get_running_loop()

    def join(messages: Iterator[bytes], context: SyncContext) -> bytes:
        next(messages)
        loop.call_soon_threadsafe(reading.set)
        try:
            next(messages)
        except BaseException as error:
            raised.append(type(error))
            raise
        return b""

    async with stub(Requests=join) as each:
        call = each.requests()
        await call.write(b"one")
        await reading.wait()
        call.cancel()
    assert [each.__name__ for each in raised] == ["CancelledError"]


async def test_generator_in_a_thread_is_closed_when_nobody_reads_on() -> None:
    closed: list[str] = []
    made = 0

    def replies(request: bytes, context: SyncContext) -> Iterator[bytes]:
        nonlocal made
        try:
            while True:
                made += 1
                yield b"x" * 1000
        finally:
            closed.append(threading.current_thread().name)

    async with stub(Replies=replies) as each:
        call = each.replies(b"")
        await call.read()
        call.cancel()
    assert len(closed) == 1


async def test_generator_in_a_thread_does_not_run_ahead_of_its_client() -> None:
    made = 0

    def replies(request: bytes, context: SyncContext) -> Iterator[bytes]:
        nonlocal made
        for _ in range(100_000):
            made += 1
            yield bytes(1000)

    async with stub(Replies=replies) as each:
        call = each.replies(b"")
        await call.read()
        previous = -1
        while made != previous:  # until nothing moves any more
            previous = made
            await asyncio.sleep(0.05)
        assert made < 1000
        call.cancel()


async def test_the_last_reply_of_a_thread_is_not_lost_behind_its_end() -> None:
    """Both come just after the loop has looked for replies."""
    handoff = _Handoff(asyncio.get_running_loop())

    class Late(deque[Any]):
        looked = False

        def __bool__(self) -> bool:
            found = len(self) > 0
            if not self.looked:
                self.looked = True
                handoff.put(b"last")
                handoff.end()
            return found

    handoff._items = Late()
    assert [reply async for reply in handoff] == [b"last"]


async def test_deadline_ends_the_call_while_its_thread_goes_on() -> None:
    release = threading.Event()
    contexts: list[SyncContext] = []
    ended: list[bool] = []

    def unary(request: bytes, context: SyncContext) -> bytes:
        contexts.append(context)
        release.wait()
        ended.append(not context.is_active())
        return request

    async with stub(Unary=unary) as each:
        timeout = 0.05
        while not contexts:  # or it was over before the thread had its turn
            with pytest.raises(ps.AioRpcError) as raised:
                await each.unary(b"", timeout=timeout)
            assert raised.value.code() is ps.StatusCode.DEADLINE_EXCEEDED
            timeout *= 4
        # The client's deadline may pass first: its cancel is on the way then.
        await wait_until(lambda: not any(context.is_active() for context in contexts))
        release.set()
    assert set(ended) == {True}


async def test_rpc_that_is_cancelled_before_its_turn_never_runs() -> None:
    pool = ThreadPoolExecutor(1)
    release = threading.Event()
    ran: list[bytes] = []

    def unary(request: bytes, context: SyncContext) -> bytes:
        ran.append(request)
        release.wait()
        return request

    async with stub({"migration_thread_pool": pool}, Unary=unary) as each:
        first = each.unary(b"first")
        await wait_until(lambda: ran)
        each.unary(b"second").cancel()
        await each.requests(requests())  # the server has heard of the cancellation by then
        release.set()
        assert await first == b"first"
    pool.shutdown()
    assert ran == [b"first"]


# -- functions of the wrong kind -----------------------------------------------------------


def test_a_generator_cannot_give_one_reply() -> None:
    def generator(request: bytes, context: SyncContext) -> Iterator[bytes]:
        yield request

    async def async_generator(request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield request

    for behavior in (generator, async_generator):
        handler = ps.unary_unary_rpc_method_handler(behavior)
        with pytest.raises(TypeError, match="has one reply"):
            ps.server().add_registered_method_handlers("test.Service", {"Unary": handler})
