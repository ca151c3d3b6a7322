"""An event loop whose time passes in jumps: a deadline of an hour takes a test no time at all.

::

    nothing is ready ──> a timer is left ──> time() is when it is due ──> it is called

The library has no other clock than its loop's: deadlines, keepalive, backoff, idle and age limits
all follow, and so do `asyncio.sleep`, `asyncio.timeout` and `asyncio.wait_for`.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, Final


class VirtualClock(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which stands still while anything can happen.

    A loop of asyncio's, whatever the policy is. In memory, the same test takes the same course
    each time. With sockets of the same process, time jumps when none of them had anything for
    `patience` real seconds. It waits for what `run_in_executor` has started, but knows of no
    other threads and processes: for these, set `auto` to False.

    Attributes:
        auto: jump to the next timer when nothing is left to do; if False, only in `advance`.
        patience: real seconds.
    """

    def __init__(self, *, auto: bool = True, patience: float = 0.01) -> None:
        """Start at 0.0."""
        self.auto = auto
        self.patience = patience
        self._now = 0.0
        # Those who advance: where to, and, once that is reached, what they wait for.
        self._goals: list[float] = []
        self._arrived: list[asyncio.Future[None]] = []
        self._threads = 0
        super().__init__(_IdleSelector(self))
        # What asyncio adds to the time to see what is due: a nanosecond is lost in large floats.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since it was made, of virtual time."""
        return self._now

    async def advance(self, seconds: float) -> None:
        """Let time pass, step by step, and all happen that is due by then, to the last turn.

        ``advance(0)`` lets happen what can happen without that time passes. A deadline is kept up
        to 1/256 s late, so advance past it.

        Raises:
            ValueError: time does not go back.
        """
        if not seconds >= 0:
            raise ValueError(f"time does not pass by {seconds!r} seconds")
        goal = self._now + seconds
        arrived = self.create_future()
        timer = self.call_at(goal, self._arrived.append, arrived)
        self._goals.append(goal)
        try:
            await arrived
        finally:
            timer.cancel()
            self._goals.remove(goal)

    def on_idle(self, left: float | None) -> bool:
        """Nothing is ready. False if there is nothing to do but to wait for others.

        Args:
            left: seconds until the next timer; None if there is none.
        """
        if self._threads:
            return False
        if self._arrived:
            for each in self._arrived:
                if not each.done():
                    each.set_result(None)
            self._arrived.clear()
            return True
        if left is None or not (self.auto or self._goals):
            return False
        self._now += left
        return True

    def run_in_executor(  # type: ignore[override]  # its types tie func to args, and to nothing here
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """As any loop does. Time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads += 1
        future.add_done_callback(self._on_thread_done)
        return future

    def _on_thread_done(self, _: object) -> None:
        self._threads -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """As any loop does. Time stands still meanwhile."""
        self._threads += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._threads -= 1


class _IdleSelector(selectors.DefaultSelector):
    """Tells a clock instead of waiting."""

    # Besides what a loop has for itself, to be woken up by.
    _OWN: Final = 1

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if len(self.get_map()) > self._OWN:
            events = super().select(self._clock.patience)
        if not events and not self._clock.on_idle(timeout):
            events = super().select(None)
        return events
