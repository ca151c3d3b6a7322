"""Calls over a link, in memory and over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from connectivity.service import serving
from service.pair import TCP, Calls

import protosocket_rpc as ps
from protosocket_rpc.testing import Link, LinkedPair

# Where a server is, and where the link to it is: None for somewhere in memory.
MEMORY = ("memory:faults", None)
ADDRESSES = {"memory": MEMORY, "tcp": (TCP, TCP), "mixed": (TCP, None)}


class LinkedCalls(Calls):
    def __init__(self, made: LinkedPair) -> None:
        super().__init__(made)
        self.link = made.link


@asynccontextmanager
async def linked(
    addresses: tuple[str, str | None] = MEMORY,
    server: dict[str, Any] | None = None,
    channel: dict[str, Any] | None = None,
    **handlers: Any,
) -> AsyncIterator[LinkedCalls]:
    address, front = addresses
    async with (
        serving(address, server, **handlers) as running,
        Link(running.target, front) as link,
        ps.insecure_channel(link.target, **(channel or {})) as made,
    ):
        yield LinkedCalls(LinkedPair(made, running.server, running.target, link))


class Held:
    """A handler that hangs, and notes what becomes of it. Answers ``quick`` at once."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.served: list[Any] = []

    async def __call__(self, request: Any, context: Any) -> bytes:
        self.served.append(request)
        if request == b"quick":
            return b"quick"
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return b""
