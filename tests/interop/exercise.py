"""What the Python servers do, whatever their messages are: the same as rust/src/exercise.rs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Exercise:
    """Shared by all connections of a server.

    Attributes:
        cut_short: RPCs that were cancelled, of those that hang and of those that count.
        hanging: RPCs that hang.
    """

    def __init__(self) -> None:
        self.cut_short = 0
        self.hanging = 0
        self._seats: list[asyncio.Future[None]] = []
        self._waiting: list[asyncio.Future[None]] = []

    async def gather(self, of: int) -> None:
        """Wait until so many do, and let the last go first."""
        seat = asyncio.get_running_loop().create_future()
        self._seats.append(seat)
        if len(self._seats) == of:
            seats, self._seats = self._seats, []
            for each in reversed(seats):
                if not each.done():
                    each.set_result(None)
        await seat

    async def hang(self) -> None:
        self.hanging += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.hanging -= 1
            self._end()

    async def count(self, count: int, then_hang: bool) -> AsyncIterator[int]:
        """Numbers from 0 on."""
        try:
            for number in range(count):
                yield number
            if then_hang:
                await asyncio.get_running_loop().create_future()
        finally:
            if then_hang:
                self._end()

    async def ended(self, count: int) -> None:
        """Wait until so many RPCs were cut short."""
        while self.cut_short < count:
            self._waiting.append(asyncio.get_running_loop().create_future())
            await self._waiting[-1]

    def _end(self) -> None:
        self.cut_short += 1
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
