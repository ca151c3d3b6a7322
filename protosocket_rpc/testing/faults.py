"""A link to a server that can be made to fail: slow, dead, cut, half closed, out of order.

::

    channel ──> Link.target ── to_server ──> server
            <──             ── to_client <──

A relay of bytes: what is on either side is as it would be without it, back pressure included, and
may be on any transport, with TLS or without.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from contextvars import Context
from typing import Final

from protosocket_rpc.raw.accepting import Listener, listen
from protosocket_rpc.raw.binding import bind
from protosocket_rpc.raw.endpoints import open_transport
from protosocket_rpc.testing.relay import End, Flow, Shape
from protosocket_rpc.testing.shuffle import Shuffle

_BACKLOG: Final = 100
_numbers: Final = itertools.count(1)


class Direction:
    """The bytes of all connections of a link, in one direction.

    `delay`, `drop` and `reorder` are for all connections, those to come included, until `heal`;
    `cut` and `half_close` for those that there are.
    """

    def __init__(self) -> None:
        self._shape: Final = Shape()
        self._flows: set[Flow] = set()

    @property
    def bytes(self) -> int:
        """How many have arrived to be passed on, in all."""
        return self._shape.bytes

    def delay(self, seconds: float) -> None:
        """Deliver everything that much later, in the loop's time; in order, as a network does."""
        self._shape.delay = seconds

    def drop(self) -> None:
        """Deliver nothing, as a network that is down: neither side is told.

        `heal` delivers what was sent meanwhile, as TCP does once the network is up again.
        """
        self._shape.dropping = True

    def cut(self, after: int = 0) -> None:
        """End every connection once `after` bytes more were delivered on it.

        The receiver gets these, and then the end; the sender's connection is reset. A frame has at
        least two bytes: ``after=1`` is in the middle of one, if nothing else is on its way.
        """
        for flow in list(self._flows):
            flow.cut(after)

    def half_close(self) -> None:
        """Tell the receivers that nothing more comes. What the senders send is lost."""
        for flow in list(self._flows):
            flow.half_close()

    def reorder(self, seed: int = 0, window: float = 0.01) -> None:
        """Deliver the frames of each RPC in order, but those of different RPCs in any order.

        For service calls without TLS; to be called while nothing is on its way. RPCs are opened in
        the order in which the client did so.

        Args:
            seed: of the order: the same frames in the same window are reordered in the same way.
            window: seconds for which frames are collected before they are delivered.
        """
        source = random.Random(seed)
        self._shape.shuffle = lambda: Shuffle(source)
        self._shape.window = window

    def heal(self) -> None:
        """Undo `delay`, `drop` and `reorder`: what is held back is delivered now."""
        self._shape.delay = 0.0
        self._shape.dropping = False
        self._shape.shuffle = None
        for flow in list(self._flows):
            flow.heal()

    def begin(self, source: End, sink: End) -> Flow:
        """A connection is to flow this way."""
        flow = Flow(self._shape, source, sink)
        self._flows.add(flow)
        source.closed.add_done_callback(lambda _: self._flows.discard(flow))
        return flow


class Link:
    """Relays connections to a server; its directions can be made to fail. A context manager.

    Args:
        server: the target to relay to.
        address: where to listen, as for `Server.add_insecure_port`; None for in memory.

    Attributes:
        target: what a channel is to connect to.
        to_server, to_client: the directions.
    """

    def __init__(self, server: str, address: str | None = None) -> None:
        self.to_server: Final = Direction()
        self.to_client: Final = Direction()
        self.target = address or f"memory:link-{next(_numbers)}"
        self._server = server
        self._refusing = False
        self._listeners: list[Listener] = []
        self._relays: set[_Relay] = set()

    @property
    def connections(self) -> int:
        """The number of connections that there are now."""
        return len(self._relays)

    def reset(self) -> None:
        """End every connection at once, on both sides, as a crash does. What is held is lost."""
        for relay in list(self._relays):
            relay.reset()

    def refuse(self) -> None:
        """End new connections at once, until `heal`."""
        self._refusing = True

    def heal(self) -> None:
        """Undo all faults that last, in both directions. Connections that have ended stay so."""
        self._refusing = False
        self.to_server.heal()
        self.to_client.heal()

    async def __aenter__(self) -> Link:
        binding = bind(self.target)
        self.target = str(binding.address)
        loop = asyncio.get_running_loop()
        try:
            self._listeners = await listen(loop, binding, self._accept, _BACKLOG)
        except BaseException:
            binding.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for listener in self._listeners:
            listener.close()
        self.reset()
        if self._relays:
            await asyncio.wait([relay.task for relay in self._relays])
        for listener in self._listeners:
            await listener.wait_closed()

    def _accept(self) -> End:
        client = End()
        client.on_made = self._begin
        return client

    def _begin(self, client: End) -> None:
        if self._refusing:
            client.abort()
            return
        relay = _Relay(self._server, client, self.to_server, self.to_client)
        self._relays.add(relay)
        relay.task.add_done_callback(lambda _: self._relays.discard(relay))


class _Relay:
    """One connection: to the client, to the server, and what flows between."""

    def __init__(
        self, target: str, client: End, to_server: Direction, to_client: Direction
    ) -> None:
        self._client = client
        self._server = End()
        client.flow = to_server.begin(client, self._server)
        self._server.flow = to_client.begin(self._server, client)
        self._connecting: asyncio.Future[None] | None = None
        # In no context in particular, though a call may be what connects.
        self.task = Context().run(asyncio.ensure_future, self._run(target))

    async def _run(self, target: str) -> None:
        client, server = self._client, self._server
        loop = asyncio.get_running_loop()
        self._connecting = asyncio.ensure_future(
            open_transport(loop, lambda: server, target, None, None)
        )
        await asyncio.wait([self._connecting])
        if self._connecting.cancelled() or self._connecting.exception() is not None:
            client.abort()
        else:
            await server.closed
        await client.closed

    def reset(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self._client.abort()
        self._server.abort()
