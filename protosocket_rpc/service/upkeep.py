"""One timer for all connections of a channel or a server: none has a timer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Final

_VISITS: Final = 4
_SHORTEST: Final = 0.01
_LONGEST: Final = 5.0


class Upkeep:
    """Calls `visit` at a steady pace, from `start` until it returns False.

    Args:
        times: in seconds; None for those that are not wanted. The pace is four visits within the
            shortest.
        visit: is given the loop's time. Not called when the loop is late: what peers have sent
            meanwhile is still to be read, and they are not to be judged by their silence.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        times: Iterable[float | None],
        visit: Callable[[float], bool],
    ) -> None:
        self._loop = loop
        shortest = min([time for time in times if time is not None], default=_LONGEST)
        self._period = min(max(shortest / _VISITS, _SHORTEST), _LONGEST)
        self._visit = visit
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._timer is None:
            self._due = self._loop.time() + self._period
            self._timer = self._loop.call_at(self._due, self._run, context=Context())

    def stop(self) -> None:
        """No more visits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._due > self._period or self._visit(now):
            self.start()
