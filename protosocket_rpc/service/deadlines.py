"""Deadlines of many RPCs with one timer: RPCs that expire within the same tick share a bucket."""

from __future__ import annotations

import heapq
from contextvars import Context
from typing import Any, Final

from protosocket_rpc.service.rpc import ServiceRpc

# Deadlines are kept late by up to one tick, and never early.
TICKS_PER_SECOND: Final = 256


class Deadlines:
    """The deadlines on one event loop.

    Adding and removing one is a set operation; the loop's own timers, which cost much more,
    are one at a time.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._buckets: dict[int, set[ServiceRpc]] = {}
        self._ticks: list[int] = []
        self._timer: Any = None
        self._timer_tick = 0
        # The timer is nobody's in particular, though a handler's call may be what arms it.
        self._context = Context()

    def add(self, rpc: ServiceRpc, when: float) -> None:
        """Call ``rpc.on_deadline()`` at `when`, in the loop's time, unless it is removed."""
        tick = int(when * TICKS_PER_SECOND) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            heapq.heappush(self._ticks, tick)
            if self._timer is None or tick < self._timer_tick:
                self._arm(tick)
        bucket.add(rpc)
        rpc.bucket = bucket

    def remove(self, rpc: ServiceRpc) -> None:
        """Forget the deadline of an RPC, if it has one."""
        if rpc.bucket is not None:
            rpc.bucket.discard(rpc)
            rpc.bucket = None

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._buckets.clear()
        self._ticks.clear()

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_tick = tick
        self._timer = self._loop.call_at(
            tick / TICKS_PER_SECOND, self._expire, context=self._context
        )

    def _expire(self) -> None:
        self._timer = None
        now = int(self._loop.time() * TICKS_PER_SECOND)
        if now < self._timer_tick:
            now = self._timer_tick  # the loop's clock is coarser than ours
        ticks = self._ticks
        while ticks:
            tick = ticks[0]
            bucket = self._buckets[tick]
            if bucket and tick > now:
                self._arm(tick)
                return
            heapq.heappop(ticks)
            del self._buckets[tick]
            for rpc in list(bucket):
                rpc.bucket = None
                rpc.on_deadline()
