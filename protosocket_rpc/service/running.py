"""The state of a server while it runs."""

from __future__ import annotations

import asyncio
import logging

from protosocket_rpc.eager import eager_runner
from protosocket_rpc.raw import RawServer
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.handlers import Handler
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.server_connection import ServiceConnection
from protosocket_rpc.wire.frame import Frame

_log = logging.getLogger("protosocket_rpc.server")


class Running:
    """What a server has while it runs, on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handlers: dict[str, Handler],
        limits: RpcLimits,
        maximum_concurrent_rpcs: int | None,
    ) -> None:
        self.loop = loop
        self.handlers = handlers
        self.limits = limits
        self.maximum_concurrent_rpcs = maximum_concurrent_rpcs
        self.runner = eager_runner(loop)
        self.deadlines = Deadlines(loop)
        self.tasks: set[asyncio.Task[None]] = set()
        self.sessions: set[ServiceConnection] = set()
        self.listeners: list[RawServer[Frame, bytes]] = []

    def on_failure(self, peer: str, error: Exception) -> None:
        """A connection is about to be closed for what its peer did."""
        _log.warning("closing the connection from %s: %s", peer, error)

    def on_closed(self, session: ServiceConnection, cause: Exception | None) -> None:
        """A connection is gone."""
        if cause is not None:
            _log.info("the connection from %s ended: %s", session.peer_name, cause)
        self.sessions.discard(session)

    def in_flight(self) -> int:
        return sum([len(session.rpcs) for session in self.sessions])
