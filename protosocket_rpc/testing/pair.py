"""A server and a channel to it in the same event loop, without sockets."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from protosocket_rpc.service.channel import Channel, insecure_channel
from protosocket_rpc.service.server import Server
from protosocket_rpc.service.server import server as make_server
from protosocket_rpc.testing.faults import Link

_numbers: Final = itertools.count(1)


class Pair:
    """A channel and the server that it leads to.

    Attributes:
        channel: for stubs.
        server: serves in memory.
        target: of the server, for further channels.
    """

    def __init__(self, channel: Channel, server: Server, target: str) -> None:
        self.channel: Final = channel
        self.server: Final = server
        self.target: Final = target


class LinkedPair(Pair):
    """A pair with a link in between.

    Attributes:
        link: makes things go wrong.
    """

    def __init__(self, channel: Channel, server: Server, target: str, link: Link) -> None:
        super().__init__(channel, server, target)
        self.link: Final = link


@asynccontextmanager
async def _serving(
    servicers: tuple[object, ...], server: Server | None, address: str | None
) -> AsyncIterator[tuple[Server, str]]:
    made = make_server() if server is None else server
    for servicer in servicers:
        made.add(servicer)
    target = address or f"memory:pair-{next(_numbers)}"
    port = made.add_insecure_port(target)
    if port:
        host, _, _ = target.rpartition(":")
        target = f"{host}:{port}"
    await made.start()
    try:
        yield made, target
    finally:
        await made.stop(None)


@asynccontextmanager
async def pair(
    *servicers: object, server: Server | None = None, address: str | None = None, **options: Any
) -> AsyncIterator[Pair]:
    """Serve in memory, with a channel to call it. All that lies between is as over a socket.

    Args:
        servicers: of classes that are derived from generated servicers.
        server: made with options of its own, and not started; None for a new one.
        address: where to serve, as for `Server.add_insecure_port`, such as ``127.0.0.1:0``; None
            for in memory.
        options: of the channel, as for `insecure_channel`.
    """
    async with (
        _serving(servicers, server, address) as (made, target),
        insecure_channel(target, **options) as channel,
    ):
        yield Pair(channel, made, target)


@asynccontextmanager
async def linked_pair(
    *servicers: object, server: Server | None = None, address: str | None = None, **options: Any
) -> AsyncIterator[LinkedPair]:
    """As `pair`, with a link in between that can be made to fail, which is in memory."""
    async with (
        _serving(servicers, server, address) as (made, target),
        Link(target) as link,
        insecure_channel(link.target, **options) as channel,
    ):
        yield LinkedPair(channel, made, target, link)
