"""Deadlines of many RPCs with one timer: RPCs that expire at about the same time share a bucket."""

from __future__ import annotations

import heapq
from contextvars import Context
from math import ceil
from typing import Any, Final

from protosocket_rpc.service.rpc import ServiceRpc

# Deadlines are kept late by up to one tick, and never early.
TICKS_PER_SECOND: Final = 256
# A bucket covers at most this part of the time that is left, so that there are few of them,
# however far away deadlines are. Who is still there when it is opened gets a narrower one.
_BUCKETS: Final = 64


class Deadlines:
    """The deadlines on one event loop.

    Adding and removing one is an operation on a dictionary; the loop's own timers, which cost
    much more, are one at a time.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        # By the tick at which a bucket is to be opened: its RPCs, and when exactly they expire.
        self._buckets: dict[int, dict[ServiceRpc, float]] = {}
        self._ticks: list[int] = []
        # The bucket that was added to last, which most go to, and the times that it covers.
        self._last: dict[ServiceRpc, float] = {}
        self._last_from = 0.0
        self._last_to = 0.0
        self._timer: Any = None
        self._timer_tick = 0
        # The timer is nobody's in particular, though a handler's call may be what arms it.
        self._context = Context()

    def add(self, rpc: ServiceRpc, when: float, left: float) -> None:
        """Call ``rpc.on_deadline()`` when it is due, unless it is removed.

        Args:
            when: the deadline, in the loop's time.
            left: seconds until then, roughly.
        """
        if self._last_from < when <= self._last_to:
            self._last[rpc] = when
            rpc.bucket = self._last
            return
        width = int(left * (TICKS_PER_SECOND / _BUCKETS)).bit_length()
        tick = ceil(when * TICKS_PER_SECOND) >> width << width
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._ticks, tick)
            if self._timer is None or tick < self._timer_tick:
                self._arm(tick)
        self._last = bucket
        self._last_from = (tick - 1) / TICKS_PER_SECOND
        self._last_to = (tick + (1 << width) - 1) / TICKS_PER_SECOND
        bucket[rpc] = when
        rpc.bucket = bucket

    def remove(self, rpc: ServiceRpc) -> None:
        """Forget the deadline of an RPC, if it has one."""
        if rpc.bucket is not None:
            del rpc.bucket[rpc]
            rpc.bucket = None

    def close(self) -> None:
        """Forget all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for bucket in self._buckets.values():
            for rpc in bucket:
                rpc.bucket = None
        self._buckets.clear()
        self._last = {}
        self._last_to = 0.0
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
        time = self._loop.time()
        now = int(time * TICKS_PER_SECOND)
        if now < self._timer_tick:
            now = self._timer_tick  # the loop's clock is coarser than ours
        ticks = self._ticks
        bucket: dict[ServiceRpc, float] = {}
        try:
            while ticks and (ticks[0] <= now or not self._buckets[ticks[0]]):
                bucket = self._buckets.pop(heapq.heappop(ticks))
                self._last_to = 0.0
                while bucket:
                    rpc, when = bucket.popitem()
                    rpc.bucket = None
                    if when * TICKS_PER_SECOND <= now:
                        rpc.on_deadline()
                    else:
                        self.add(rpc, when, when - time)
        finally:
            for rpc, when in bucket.items():  # one that failed is not to take others with it
                self.add(rpc, when, 0.0)
            if ticks:
                self._arm(ticks[0])
