"""An alarm for a point in time: the timers of event loops are off by a millisecond or two."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_SECOND = 1_000_000_000


class Alarm:
    """Calls `ring` on the event loop at the time that was set last. A context manager."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        # os.timerfd_create() needs Python 3.13.
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def __enter__(self) -> Alarm:
        self._loop.add_reader(self._fd, self._expired)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def set(self, when: int) -> None:
        """`when` is in nanoseconds of `time.monotonic_ns()`; what is over rings at once."""
        once_at = (ctypes.c_long * 4)(0, 0, *divmod(when, _SECOND))
        _libc.timerfd_settime(self._fd, _ABSOLUTE, once_at, None)

    def _expired(self) -> None:
        os.read(self._fd, 8)
        self._ring()
