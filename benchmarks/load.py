"""The load generator that every asyncio peer shares: all their calls are timed by this code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from benchmarks.alarm import Alarm
from benchmarks.histogram import Histogram
from benchmarks.memory import trim
from benchmarks.work import BURN_MICROSECONDS, LARGE_BYTES, Work

TICK_SECONDS = 0.001
DRAIN_SECONDS = 2.0
# Calls of so many seconds in flight: it has lost.
LOST_SECONDS = 0.25
HOLD_MILLISECONDS = 8000
SETTLE_SECONDS = 2.0
_CONNECTS_AT_ONCE = 50  # well below any server's listen backlog

clock = time.monotonic_ns


class Unary(NamedTuple):
    """A unary call as the driver makes it: `(await invoke(request(n))).number == n`."""

    request: Callable[[int], Any]
    invoke: Callable[[Any], Awaitable[Any]]


class Client(Protocol):
    """What a peer implements to be driven: one connection to its server."""

    async def close(self) -> None: ...

    def unary(self, method: str, work: Work) -> Unary:
        """`method` is Unary, Hold or Burn; `work` says what the call carries."""


class StreamClient(Client, Protocol):
    """What it implements besides, if it has streams."""

    async def server_stream(self, count: int, size: int) -> int:
        """Receives `count` messages of `size` bytes; returns how many came."""

    async def client_stream(self, count: int, size: int) -> int:
        """Sends `count` messages; returns the number in the server's answer."""

    async def bidi(self, count: int, size: int) -> int:
        """Sends `count` messages while receiving their echoes; returns how many came."""

    async def ping_pong(self, size: int, lap: Callable[[], bool]) -> None:
        """Sends a message and receives its echo for as long as `lap()` is true."""


Connect = Callable[..., Awaitable[Client]]
"""Makes a client; with the argument `connections` one of so many, where the peer has such."""


class WrongReplyError(Exception):
    """A peer answered, but not with what was asked for."""


@dataclass
class Result:
    calls: int
    seconds: float
    latency: Histogram = field(default_factory=Histogram)
    lateness: Histogram = field(default_factory=Histogram)
    """Of the open loop: how long after its intended time each call was made."""
    background: int = 0
    unanswered: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "seconds": self.seconds,
            "latency": self.latency.to_json(),
            "lateness": self.lateness.to_json(),
            "background": self.background,
            "unanswered": self.unanswered,
        }


async def measure(work: Work, connect: Connect, event: Callable[[str], None]) -> Result:
    """Does `work` on fresh connections. `event` is called with begin and end."""
    if work.kind in _HELD_STILL:
        return await _HELD_STILL[work.kind](work, connect, event)
    perform = _TIMED[work.kind]
    warm_up = _closed_loop if perform is _open_loop else perform
    clients = await _connections(work.connections, connect)
    try:
        async with _background(work, clients[0]) as count:
            if work.warmup:
                await warm_up(work, clients, work.warmup)
            before = count[0]
            event("begin")
            result = await perform(work, clients, work.seconds)
            event("end")
            result.background = count[0] - before
            return result
    finally:
        await asyncio.gather(*(client.close() for client in clients))


async def _connections(count: int, connect: Callable[[], Awaitable[Client]]) -> list[Client]:
    clients: list[Client] = []
    while len(clients) < count:
        some = min(count - len(clients), _CONNECTS_AT_ONCE)
        clients += await asyncio.gather(*(connect() for _ in range(some)))
    return clients


async def _closed_loop(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    latencies: list[int] = []
    record = latencies.append
    begin = clock()
    end = begin + int(seconds * 1e9)

    async def worker(number: int) -> None:
        request, invoke = clients[number % len(clients)].unary("Unary", work)
        started = clock()
        while True:
            reply = await invoke(request(number))
            now = clock()
            record(now - started)
            if reply.number != number:
                raise WrongReplyError(f"asked with {number}, answered with {reply.number}")
            if now >= end:
                return
            number += work.concurrency
            started = now

    await asyncio.gather(*map(worker, range(work.concurrency)))
    elapsed = clock() - begin
    return Result(len(latencies), elapsed / 1e9, Histogram(latencies))


async def _open_loop(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    """Makes the calls that are due whenever it wakes, whatever became of earlier ones.

    One coroutine takes the replies of all calls: a task for each would cost the client more than
    some peers' calls do. Those that are mere coroutines need one.
    """
    latencies: list[int] = []
    lateness: list[int] = []
    running: dict[int, Any] = {}
    ended: list[int] = []
    some_ended = asyncio.Event()
    stopped = asyncio.Event()
    request, invoke = clients[0].unary("Unary", work)
    total = int(work.rate * seconds)
    interval = 1e9 / work.rate
    sent = 0
    begin = clock()

    def on_end(number: int, call: Any) -> None:
        ended.append(number)
        some_ended.set()

    def on_tick() -> None:
        nonlocal sent
        due = min(total, due_calls(clock() - begin, interval))
        while sent < due:
            lateness.append(clock() - begin - int(sent * interval))
            call: Any = invoke(request(sent))
            if not hasattr(type(call), "add_done_callback"):
                call = asyncio.ensure_future(call)
            running[sent] = call
            call.add_done_callback(partial(on_end, sent))
            sent += 1
        if sent == total or len(running) > work.rate * LOST_SECONDS:
            stopped.set()
        else:
            alarm.set(next_tick(clock(), begin + int(sent * interval)))

    async def take_replies() -> None:
        while True:
            await some_ended.wait()
            some_ended.clear()
            numbers = ended.copy()
            ended.clear()
            for number in numbers:
                reply = await running.pop(number)
                latencies.append(clock() - begin - int(number * interval))
                if reply.number != number:
                    raise WrongReplyError(f"asked with {number}, answered with {reply.number}")
            if stopped.is_set() and not running:
                return

    taking = asyncio.ensure_future(take_replies())
    with Alarm(asyncio.get_running_loop(), on_tick) as alarm:
        on_tick()
        stopping = asyncio.ensure_future(stopped.wait())
        await asyncio.wait([stopping, taking], return_when=asyncio.FIRST_COMPLETED)
    elapsed = clock() - begin
    await asyncio.wait([taking], timeout=DRAIN_SECONDS)
    for task in (stopping, taking, *running.values()):
        task.cancel()
    await asyncio.gather(stopping, *running.values(), return_exceptions=True)
    with contextlib.suppress(asyncio.CancelledError):
        await taking
    return Result(
        len(latencies),
        elapsed / 1e9,
        Histogram(latencies),
        Histogram(lateness),
        unanswered=total - len(latencies),
    )


def next_tick(now: int, due: int) -> int:
    """When to look next for calls that are due, of which the first is at `due`."""
    return max(due, now + int(TICK_SECONDS * 1e9))


def due_calls(elapsed: int, interval: float) -> int:
    """How many calls are due after `elapsed` ns when one is due every `interval` ns from 0 on."""
    return int(elapsed / interval) + 1


async def _streams(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    """A short stream that tells how long a message takes, then streams of equal length one after
    the other; enough messages in each that opening and closing it hardly counts."""
    least = least_messages(work)

    async def stream(number: int, count: int) -> None:
        call = getattr(clients[number % len(clients)], work.kind)
        got = await call(count, work.size)
        if got != count:
            raise WrongReplyError(f"{got} messages instead of {count}")

    begin = clock()
    await asyncio.gather(*(stream(number, least) for number in range(work.concurrency)))
    now = clock()
    count = max(least, int(seconds * 1e9 / 3 / (now - begin) * least))
    messages = least * work.concurrency  # of the measured CPU time, so of what is measured
    end = now + int(seconds * 1e9)

    async def worker(number: int) -> None:
        nonlocal messages
        while clock() < end:
            await stream(number, count)
            messages += count

    await asyncio.gather(*map(worker, range(work.concurrency)))
    return Result(messages, (clock() - begin) / 1e9)


def least_messages(work: Work) -> int:
    """Of a stream that is opened to learn how long a message takes."""
    return max(20, min(500, (1 << 20) // work.size) // work.concurrency)


async def _ping_pong(work: Work, clients: Sequence[Client], seconds: float) -> Result:
    streaming = cast(Sequence[StreamClient], clients)
    latencies: list[int] = []
    begin = clock()
    end = begin + int(seconds * 1e9)

    def stopwatch() -> Callable[[], bool]:
        started = 0

        def lap() -> bool:
            nonlocal started
            now = clock()
            if started:
                latencies.append(now - started)
            started = now
            return now < end

        return lap

    await asyncio.gather(
        *(
            streaming[number % len(clients)].ping_pong(work.size, stopwatch())
            for number in range(work.concurrency)
        )
    )
    return Result(len(latencies), (clock() - begin) / 1e9, Histogram(latencies))


async def _held(work: Work, connect: Connect, event: Callable[[str], None]) -> Result:
    """Calls that wait for their answer: the end is reported while all of them are in flight.
    As many before the begin have filled what memory was to spare."""
    client = await connect()
    request, invoke = client.unary("Hold", work)
    calls: list[asyncio.Future[Any]] = []

    async def hold() -> None:
        requests = map(request, [HOLD_MILLISECONDS] * work.concurrency)
        calls.extend(asyncio.ensure_future(invoke(message)) for message in requests)
        await asyncio.sleep(SETTLE_SECONDS)

    await hold()
    trim()
    event("begin")
    await hold()
    trim()
    event("end")
    early = sum(call.done() for call in calls)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    await client.close()
    return Result(work.concurrency, SETTLE_SECONDS, unanswered=early)


async def _idle(work: Work, connect: Connect, event: Callable[[str], None]) -> Result:
    """Connections that each made one call; as many before the begin, as with _held."""

    async def used() -> Client:
        client = await connect()
        request, invoke = client.unary("Unary", work)
        await invoke(request(1))
        return client

    return await _left_idle(work, partial(_connections, connect=used), event)


async def _pool(work: Work, connect: Connect, event: Callable[[str], None]) -> Result:
    """The same with one client that has all the connections, and uses them in turn."""

    async def pool(count: int) -> list[Client]:
        before = _open_files()
        client = await connect(connections=count)
        request, invoke = client.unary("Unary", work)
        while _open_files() < before + count:
            await invoke(request(0))
        for number in range(count):
            await invoke(request(number))
        return [client]

    return await _left_idle(work, pool, event)


async def _left_idle(
    work: Work, opened: Callable[[int], Awaitable[list[Client]]], event: Callable[[str], None]
) -> Result:
    clients = await opened(work.connections)
    trim()
    begin = clock()
    event("begin")
    clients += await opened(work.connections)
    trim()
    event("end")
    elapsed = clock() - begin
    await asyncio.gather(*(client.close() for client in clients))
    return Result(work.connections, elapsed / 1e9)


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


_TIMED: dict[str, Callable[[Work, Sequence[Client], float], Awaitable[Result]]] = {
    "unary": _closed_loop,
    "open": _open_loop,
    "server_stream": _streams,
    "client_stream": _streams,
    "bidi": _streams,
    "ping_pong": _ping_pong,
}
_HELD_STILL: dict[str, Callable[[Work, Connect, Callable[[str], None]], Awaitable[Result]]] = {
    "held": _held,
    "idle": _idle,
    "pool": _pool,
}


@contextlib.asynccontextmanager
async def _background(work: Work, client: Client) -> AsyncIterator[list[int]]:
    """One call after the other on the side; gives a list whose only item counts them."""
    count = [0]
    if not work.background:
        yield count
        return
    if work.background == "burn":
        request, invoke = client.unary("Burn", Work())
        number = BURN_MICROSECONDS
    else:
        request, invoke = client.unary("Unary", Work(size=LARGE_BYTES))
        number = 1

    stopped = False

    async def repeat() -> None:
        while not stopped:
            await invoke(request(number))
            count[0] += 1

    task = asyncio.ensure_future(repeat())
    try:
        yield count
    finally:
        stopped = True
        await task
