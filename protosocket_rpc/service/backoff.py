"""How long to wait between attempts to connect."""

from __future__ import annotations

import random
from typing import Final

_FACTOR: Final = 1.6
_JITTER: Final = 0.2


class Backoff:
    """Pauses that grow with each failure in a row, up to a limit; in seconds, with jitter."""

    __slots__ = ("_first", "_last", "_longest")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._last = 0.0

    def next(self) -> float:
        """The pause after another failure."""
        pause = self._last * _FACTOR if self._last else self._first
        self._last = min(pause, self._longest)
        return self._last * (1.0 + random.uniform(-_JITTER, _JITTER))

    def reset(self) -> None:
        """It has gone well: the next failure is a first one."""
        self._last = 0.0
