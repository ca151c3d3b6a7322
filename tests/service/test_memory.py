"""Nothing is left of an RPC when it has ended: no cycles, and no memory that grows."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from service.pair import KINDS, TCP, Calls, paired, result
from support import wait_until

import protosocket_rpc as ps

OUTCOMES = ("ok", "status", "raise", "cancelled", "deadline", "expired", "no reader", "iterator")


MANY = int(os.environ.get("MEMORY_RPCS", "1000"))


def resident_bytes() -> int:
    """Of this process. 0 where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def quiet() -> Iterator[None]:
    """A log keeps what it is given: here that would be the RPCs."""
    logger = logging.getLogger("protosocket_rpc")
    logger.disabled = True
    for name in ("server", "channel"):
        logger.getChild(name).disabled = True
    yield
    for name in ("server", "channel"):
        logger.getChild(name).disabled = False
    logger.disabled = False


async def serve(context: Any, request: bytes) -> bytes:
    if request == b"status":
        await context.abort(ps.StatusCode.NOT_FOUND, "none", (("t", "1"),))
    elif request == b"raise":
        raise ValueError("of the handler")
    elif request in (b"cancelled", b"deadline", b"expired"):
        await asyncio.Event().wait()
    elif request == b"no reader":
        await asyncio.sleep(0)
    return request


async def one_request(request: bytes, context: Any) -> bytes:
    return await serve(context, request)


async def one_request_replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"first"
    yield await serve(context, request)


async def requests_reply(requests: Any, context: Any) -> bytes:
    async for request in requests:
        return await serve(context, request)
    return b""


async def requests_replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield await serve(context, request)


HANDLERS = {
    "Unary": one_request,
    "Replies": one_request_replies,
    "Requests": requests_reply,
    "Both": requests_replies,
}


async def requests_that_raise() -> AsyncIterator[bytes]:
    yield b"ok"
    raise ValueError("of the iterator")


async def use(pair: Calls, kind: str, outcome: str) -> None:
    request = outcome.encode()
    options = {"timeout": {"deadline": 0.004, "expired": -1.0}.get(outcome)}
    streams = kind in ("requests", "both")
    if outcome == "iterator":
        requests: Any = requests_that_raise()
    else:
        requests = iter([request])
    method = getattr(pair, kind)
    call = method(requests, **options) if streams else method(request, **options)
    if outcome == "cancelled":
        await asyncio.sleep(0)
        call.cancel()
    elif outcome == "no reader":
        del call
        await pair.unary(b"ok")
        return
    with contextlib.suppress(ps.AioRpcError, ValueError, asyncio.CancelledError):
        await result(call)


async def settled(pair: Calls) -> None:
    """Wait until both sides are done with what was cancelled, and with what it left to do."""
    await wait_until(lambda: not pair.server._running.tasks)  # type: ignore[union-attr]  # it runs
    assert await pair.unary(b"ok") == b"ok"
    for _ in range(5):
        await asyncio.sleep(0)


def cases() -> list[tuple[str, str]]:
    return [
        (kind, outcome)
        for kind in KINDS
        for outcome in OUTCOMES
        if outcome != "iterator" or kind in ("requests", "both")
    ]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("kind", "outcome"), cases())
async def test_no_cycles(kind: str, outcome: str) -> None:
    async with paired(TCP, **HANDLERS) as pair:
        for _ in range(3):
            await use(pair, kind, outcome)
        await settled(pair)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await use(pair, kind, outcome)
            await settled(pair)
            assert gc.collect() == 0
        finally:
            gc.enable()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_no_cycles_of_large_messages(size: int) -> None:
    body = bytes(size)
    async with paired(TCP) as pair:
        await pair.unary(body)
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                assert len(await pair.unary(body)) == size
                assert len(await pair.requests([body, body])) == 2 * size
                assert len(await result(pair.both([body, body]))) == 2
            assert await pair.unary(b"ok") == b"ok"
            for _ in range(5):
                await asyncio.sleep(0)
            assert gc.collect() == 0
        finally:
            gc.enable()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("kind", "outcome"), cases())
async def test_memory_is_flat(kind: str, outcome: str) -> None:
    count = 30 if outcome == "deadline" else 100
    async with paired(TCP, **HANDLERS) as pair:
        for _ in range(count):
            await use(pair, kind, outcome)
        await settled(pair)
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(count):
                await use(pair, kind, outcome)
            await settled(pair)
            gc.collect()
            first, _ = tracemalloc.get_traced_memory()
            for _ in range(3 * count):
                await use(pair, kind, outcome)
            await settled(pair)
            gc.collect()
            second, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # Less than two pointers' worth for a call: no call, context or frame is left.
    assert second - first < 3 * count * 16 + 10_000


@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("outcome", ["ok", "status", "cancelled", "deadline"])
async def test_memory_of_many(outcome: str) -> None:
    """As many as MEMORY_RPCS says, of all kinds, with the collector off until the last has ended.

    ``MEMORY_RPCS=100000 pytest -s tests/service/test_memory.py -k many`` is the long way.
    """

    async def batch(pair: Calls) -> None:
        await asyncio.gather(*[use(pair, KINDS[number % 4], outcome) for number in range(100)])

    async with paired(TCP, **HANDLERS) as pair:
        gc.collect()
        gc.disable()  # before the first: collecting empties the interpreter's free lists
        try:
            for _ in range(3):
                await batch(pair)
            await settled(pair)
            blocks, resident = sys.getallocatedblocks(), resident_bytes()
            for _ in range(MANY // 100):
                await batch(pair)
            await settled(pair)
            blocks = sys.getallocatedblocks() - blocks
            resident = resident_bytes() - resident
            garbage = gc.collect()
        finally:
            gc.enable()
    print(f"{MANY} {outcome}: {blocks:+} blocks, {resident:+} bytes, {garbage} garbage")
    assert garbage == 0
    # Of the allocator. One for each RPC would be too many; hundreds, however many RPCs there were,
    # are lists and tables that a burst has made room in.
    assert blocks < max(800, MANY // 20)


@pytest.mark.usefixtures("quiet")
async def test_a_lost_connection_leaves_nothing() -> None:
    async with paired(TCP, **HANDLERS) as pair:
        for attempt in range(3):
            if attempt == 1:
                gc.collect()
            calls = [pair.start(kind) for kind in KINDS]
            waiting = pair.unary(b"cancelled")
            await pair.unary(b"ok")
            for session in list(pair.server._running.sessions):  # type: ignore[union-attr]  # it runs
                session.sender().abort(ConnectionError("for the test"))
            for call in [*calls, waiting]:
                await call.code()
        del calls, call, waiting, session
        for kind in KINDS:
            assert await result(pair.start(kind, wait_for_ready=True))
        await settled(pair)
        assert not any(isinstance(each, ps.ServicerContext) for each in gc.get_objects())


async def given_up(coroutine: Any) -> None:
    """Wait a little for something, and not until it happens."""
    task = asyncio.create_task(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_reads_and_writes_that_are_given_up_leave_nothing() -> None:
    waiting: list[int] = []

    async def both(requests: Any, context: Any) -> AsyncIterator[bytes]:
        for _ in range(5):
            await given_up(context.read())
        waiting.append(len(context._readers))
        await context.write(bytes(500_000))  # more than the credit that the client gives
        for _ in range(5):
            await given_up(context.write(b"more"))
        waiting.append(len(context._writers))
        assert await context.read() == b"request"  # both still work
        yield b"last"

    async with paired(Both=both) as pair:
        call = pair.both()
        await wait_until(lambda: len(waiting) == 2)
        await call.write(b"request")
        assert [len(reply) async for reply in call] == [500_000, 4]
    assert waiting == [0, 0]


async def test_a_call_that_somebody_has_waited_for_in_vain_keeps_nothing_of_it() -> None:
    asked = asyncio.Event()

    async def unary(request: bytes, context: Any) -> bytes:
        await asked.wait()
        return request

    async with paired(Unary=unary) as pair:
        call = pair.unary(b"request")
        for question in (call.code, call.initial_metadata) * 5:
            await given_up(question())
        assert len(call._waiters) == 0
        asked.set()
        assert await call.code() is ps.StatusCode.OK


def has_dictionary(rpc: object) -> bool:
    """Whether an object's attributes are in a dictionary of its own, and not in the object."""
    return any(isinstance(held, dict) and "id" in held for held in gc.get_referents(rpc))


@pytest.mark.source
@pytest.mark.skipif(sys.version_info < (3, 11), reason="there, each object has a dictionary")
async def test_rpcs_in_flight_need_no_dictionaries() -> None:
    """Python lays an object out as its class's first ones were: later attributes cost more."""
    contexts: list[Any] = []
    go_on = asyncio.Event()

    async def handler(request: Any, context: Any) -> bytes:
        contexts.append(context)
        await go_on.wait()
        return b"reply"

    async with paired(TCP, Unary=handler) as pair:
        calls = [pair.unary(b"") for _ in range(64)]
        calls += [pair.unary(b"", timeout=60, metadata=(("k", "v"),)) for _ in range(64)]
        await wait_until(lambda: len(contexts) == len(calls))
        go_on.set()
        assert await asyncio.gather(*calls) == [b"reply"] * len(calls)
    assert not any(has_dictionary(rpc) for rpc in contexts + calls)
