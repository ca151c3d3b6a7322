"""A clock that a test moves: asyncio's timers, and all that the library measures, follow it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import closing

import pytest

from protosocket_rpc.testing import VirtualClock


async def test_it_starts_at_zero_and_stands_still(virtual_clock: VirtualClock) -> None:
    assert asyncio.get_running_loop() is virtual_clock
    for _ in range(100):
        await asyncio.sleep(0)
    assert virtual_clock.time() == 0.0


@pytest.mark.parametrize("seconds", [0.001, 1.0, 30.0, 1e5, 1e9])
async def test_sleeping_takes_no_time(virtual_clock: VirtualClock, seconds: float) -> None:
    await asyncio.sleep(seconds)
    assert virtual_clock.time() == pytest.approx(seconds)


async def test_timers_are_due_in_their_order(virtual_clock: VirtualClock) -> None:
    seen: list[tuple[str, float]] = []

    async def note(name: str, *pauses: float) -> None:
        for pause in pauses:
            await asyncio.sleep(pause)
            seen.append((name, virtual_clock.time()))

    await asyncio.gather(note("a", 10, 10), note("b", 15, 15), note("c", 1))
    assert seen == [("c", 1.0), ("a", 10.0), ("b", 15.0), ("a", 20.0), ("b", 30.0)]


async def test_time_limits(virtual_clock: VirtualClock) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 3600)
    assert virtual_clock.time() == pytest.approx(3600)


class TestAdvancing:
    async def test_what_is_due_has_happened_and_nothing_else(
        self, virtual_clock: VirtualClock
    ) -> None:
        virtual_clock.auto = False
        seen: list[int] = []

        async def count() -> None:
            while True:
                await asyncio.sleep(1)
                for _ in range(20):  # a few turns later, with no time between
                    await asyncio.sleep(0)
                seen.append(len(seen) + 1)

        task = asyncio.ensure_future(count())
        await virtual_clock.advance(0)
        assert seen == []
        await virtual_clock.advance(2.5)
        assert seen == [1, 2]
        await virtual_clock.advance(0.5)
        assert seen == [1, 2, 3]
        assert virtual_clock.time() == 3.0
        task.cancel()

    async def test_without_it_time_stands_still(self, virtual_clock: VirtualClock) -> None:
        virtual_clock.auto = False
        slept = asyncio.ensure_future(asyncio.sleep(1))
        # Only a real event wakes the loop now.
        await _threaded_wake()
        assert not slept.done()
        await virtual_clock.advance(1)
        assert slept.done()

    async def test_several_at_a_time(self, virtual_clock: VirtualClock) -> None:
        virtual_clock.auto = False

        async def go(seconds: float) -> float:
            await virtual_clock.advance(seconds)
            return virtual_clock.time()

        assert await asyncio.gather(go(5), go(2), go(2)) == [5.0, 2.0, 2.0]

    async def test_one_that_is_cancelled_goes_no_further(self, virtual_clock: VirtualClock) -> None:
        virtual_clock.auto = False
        advancing = asyncio.ensure_future(virtual_clock.advance(10))
        virtual_clock.call_later(3, advancing.cancel)
        with pytest.raises(asyncio.CancelledError):
            await advancing
        await _threaded_wake()
        assert virtual_clock.time() == 3.0

    @pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
    async def test_time_does_not_go_back(self, virtual_clock: VirtualClock, seconds: float) -> None:
        with pytest.raises(ValueError, match="time does not pass by"):
            await virtual_clock.advance(seconds)


async def _threaded_wake() -> None:
    """Wait for a thread that the loop knows nothing of."""
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    thread = threading.Timer(0.01, loop.call_soon_threadsafe, [woken.set])
    thread.start()
    await woken.wait()
    thread.join()


class TestTheRealWorld:
    async def test_time_waits_for_executors(self, virtual_clock: VirtualClock) -> None:
        slept = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.to_thread(time.sleep, 0.01)
        assert not slept.done()
        assert virtual_clock.time() == 0.0
        await slept

    async def test_time_waits_for_sockets(self, virtual_clock: VirtualClock) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            virtual_clock.patience = 60.0
            thread = threading.Timer(0.01, theirs.send, [b"x"])
            thread.start()
            received = virtual_clock.sock_recv(ours, 1)
            assert await asyncio.wait_for(received, 3600) == b"x"
            assert virtual_clock.time() == 0.0
            thread.join()

    async def test_but_not_for_ever(self, virtual_clock: VirtualClock) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            received = virtual_clock.sock_recv(ours, 1)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(received, 3600)

    def test_it_closes_as_any_loop(self) -> None:
        with closing(VirtualClock()) as loop:
            loop.run_until_complete(loop.run_in_executor(None, int))
            loop.run_until_complete(loop.shutdown_default_executor())
            assert loop.time() == 0.0
