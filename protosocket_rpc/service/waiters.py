"""Futures of those who wait for something to happen."""

from __future__ import annotations

import asyncio

Waiters = list[asyncio.Future[None]]


async def wait(waiters: Waiters, waiter: asyncio.Future[None]) -> None:
    """Wait for it, as one of `waiters`. Who gives up is one of them no longer."""
    waiters.append(waiter)
    try:
        await waiter
    except BaseException:
        if waiter in waiters:
            waiters.remove(waiter)
        raise


def wake(waiters: Waiters) -> None:
    """It has happened."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
