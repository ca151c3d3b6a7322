"""What the asyncio peers have in common: the loop and the two processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import uvloop

from benchmarks import load
from benchmarks.client import answer, event
from benchmarks.work import Endpoint


def drive(client: Callable[[Endpoint], Awaitable[load.Client]], endpoint: Endpoint) -> None:
    """Does the works of standard input on one event loop; `client` opens a connection."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    connect = partial(client, endpoint)
    answer(lambda work: loop.run_until_complete(load.measure(work, connect, event)))


def serve_forever(start: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Runs `start`, which leaves a server listening, and then the loop until SIGTERM."""

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        server = await start()
        await stop.wait()
        del server

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(main())
