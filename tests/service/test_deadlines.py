"""Deadlines on a clock that the test turns."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from protosocket_rpc.service.deadlines import TICKS_PER_SECOND, Deadlines
from protosocket_rpc.service.rpc import ServiceRpc

TICK = 1 / TICKS_PER_SECOND


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """What Deadlines needs of a loop. `early`: how much too early its timers fire."""

    def __init__(self, early: float = 0.0) -> None:
        self.now = 1000.0
        self.early = early
        self.timers: list[Timer] = []
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], *, context: Context) -> Timer:
        timer = Timer(when, callback)
        self.timers.append(timer)
        self.armed += 1
        return timer

    def pending(self) -> list[Timer]:
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        return self.timers

    def run_until(self, end: float) -> None:
        while due := [timer for timer in self.pending() if timer.when <= end]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when - self.early)
            timer.callback()
        self.now = end


class Rpc(ServiceRpc):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.expired: list[float] = []

    def on_deadline(self) -> None:
        self.expired.append(self._clock.now)


def expect(deadlines: Deadlines, clock: Clock, timeout: float) -> Rpc:
    rpc = Rpc(clock)
    deadlines.add(rpc, clock.now + timeout, timeout)
    return rpc


@pytest.mark.parametrize("early", [0.0, 0.0009])
@pytest.mark.parametrize("timeout", [1e-6, 0.001, 0.1, 0.25, 1.0, 1.7, 30.0, 3600.0, 1e6, 9e8])
def test_late_by_a_tick_at_the_most_and_never_early(timeout: float, early: float) -> None:
    clock = Clock(early)
    deadlines = Deadlines(clock)
    rpc = expect(deadlines, clock, timeout)
    clock.run_until(1000 + timeout + 1)
    (when,) = rpc.expired
    assert -early - 1e-6 <= when - (1000 + timeout) <= TICK  # floats of large numbers are coarse
    assert rpc.bucket is None
    assert not clock.pending()


@pytest.mark.parametrize("timeout", [TICK, 0.5, 1.0, 30.0, 3600.0])
def test_on_time_where_a_tick_is(timeout: float) -> None:
    clock = Clock()
    rpc = expect(Deadlines(clock), clock, timeout)
    clock.run_until(1000 + timeout)
    assert rpc.expired == [1000 + timeout]


def test_many_in_any_order() -> None:
    rng = random.Random(5)
    clock = Clock()
    deadlines = Deadlines(clock)
    due: dict[Rpc, float] = {}
    removed: list[Rpc] = []
    for _ in range(3000):
        timeout = rng.choice([0.01, 1, 10, 300]) * rng.random()
        rpc = expect(deadlines, clock, timeout)
        due[rpc] = clock.now + timeout
        if rng.random() < 0.3 and (alive := [rpc for rpc in due if not rpc.expired]):
            rpc = rng.choice(alive)
            deadlines.remove(rpc)
            removed.append(rpc)
            del due[rpc]
        clock.run_until(clock.now + rng.random() * 0.05)
        assert len(clock.pending()) <= 1
    clock.run_until(clock.now + 301)
    for rpc, when in due.items():
        (expired,) = rpc.expired
        assert 0 <= expired - when <= TICK
    assert not any(rpc.expired for rpc in removed)
    assert not clock.pending()


def test_a_deadline_in_the_past_expires_at_once() -> None:
    clock = Clock()
    rpc = expect(Deadlines(clock), clock, -5.0)
    clock.run_until(1000.0)
    assert rpc.expired == [1000.0]


def test_removing_twice_or_what_has_none_is_harmless() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    rpc = expect(deadlines, clock, 1)
    deadlines.remove(rpc)
    deadlines.remove(rpc)
    deadlines.remove(Rpc(clock))
    clock.run_until(1002.0)
    assert not rpc.expired


@pytest.mark.parametrize("timeout", [1.0, 60.0, 3600.0, 86400.0])
def test_far_deadlines_of_calls_that_end_soon_leave_little_behind(timeout: float) -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    for _ in range(100_000):
        deadlines.remove(expect(deadlines, clock, timeout))
        clock.run_until(clock.now + timeout / 50_000)
    assert len(deadlines._buckets) < 300
    assert len(deadlines._ticks) == len(deadlines._buckets)
    assert clock.armed < 1000


def test_one_that_fails_does_not_take_others_with_it() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    rpcs = [expect(deadlines, clock, 1) for _ in range(10)]
    later = expect(deadlines, clock, 2)

    def fail() -> None:
        raise ValueError("a defect")

    rpcs[4].on_deadline = fail  # type: ignore[method-assign]  # what is tested
    with pytest.raises(ValueError, match="a defect"):
        clock.run_until(1003.0)
    clock.run_until(1003.0)
    assert [len(rpc.expired) for rpc in rpcs] == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert later.expired


def test_an_rpc_that_expires_may_add_and_remove_others() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    other = expect(deadlines, clock, 1)
    added: list[Rpc] = []

    class Busy(Rpc):
        def on_deadline(self) -> None:
            super().on_deadline()
            deadlines.remove(other)
            added.extend(expect(deadlines, clock, timeout) for timeout in (-1, 0, 1))

    busy: Any = Busy(clock)
    deadlines.add(busy, 1000.5, 0.5)
    clock.run_until(1003.0)
    assert len(busy.expired) == 1
    assert not other.expired
    assert [len(rpc.expired) for rpc in added] == [1, 1, 1]


def test_closing_forgets_all() -> None:
    clock = Clock()
    deadlines = Deadlines(clock)
    rpc = expect(deadlines, clock, 1)
    deadlines.close()
    deadlines.remove(rpc)
    clock.run_until(1005.0)
    assert not rpc.expired
    assert not clock.pending()
