"""Futures of those who wait for something to happen."""

from __future__ import annotations

import asyncio

Waiters = list[asyncio.Future[None]]


def wake(waiters: Waiters) -> None:
    """It has happened."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
