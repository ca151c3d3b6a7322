"""The state of a server while it runs, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Final

from protosocket_rpc.eager import eager_runner
from protosocket_rpc.raw import RawServer
from protosocket_rpc.service.connectivity import ServerConnectivity
from protosocket_rpc.service.counted import CountedContext
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.handler import Handler
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.metrics import ServerMetrics, Snapshot, empty_snapshot
from protosocket_rpc.service.routes import Routes
from protosocket_rpc.service.server_connection import LINGER, ServiceConnection
from protosocket_rpc.service.upkeep import Upkeep
from protosocket_rpc.wire.frame import Frame

_log = logging.getLogger("protosocket_rpc.server")

# Seconds that a peer has to read what is still queued for it.
_CLOSE_TIMEOUT: Final = 1.0


class Running:
    """What a server has while it runs, on one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        routes: Routes,
        limits: RpcLimits,
        connectivity: ServerConnectivity,
        maximum_concurrent_rpcs: int | None,
        metrics: ServerMetrics | None,
    ) -> None:
        self.loop = loop
        self.routes = routes
        self.limits = limits
        self.connectivity = connectivity
        self.maximum_concurrent_rpcs = maximum_concurrent_rpcs
        self.metrics = metrics
        # Makes the RPCs that are counted; None if none are.
        self.count_rpc: Callable[[ServiceConnection, Frame, Handler], CountedContext] | None
        self.count_rpc = None if metrics is None else partial(CountedContext, metrics)
        # Counted only if there is a limit.
        self.rpcs = 0
        self.runner = eager_runner(loop)
        self.deadlines = Deadlines(loop)
        self.tasks: set[asyncio.Task[None]] = set()
        self.connections = 0  # that are served
        self.listeners: list[RawServer[Frame, bytes]] = []
        self.draining = False
        self.stopped = False
        # Connections whose RPCs are to end first; None while that is not the question yet.
        self._undrained: set[ServiceConnection] | None = None
        self._drained = asyncio.Event()
        # When they have to, in the loop's time, and what sees to it.
        self._grace_ends = math.inf
        self._grace_timer: asyncio.TimerHandle | None = None
        self._upkeep = Upkeep(
            loop,
            (
                connectivity.keepalive_interval,
                connectivity.keepalive_timeout,
                connectivity.max_age,
                connectivity.max_idle,
                LINGER,
            ),
            self._visit,
        )

    # -- what its connections tell ---------------------------------------------------------

    @property
    def sessions(self) -> list[ServiceConnection]:
        """Those of the connections that are open: a table of its own would cost each memory."""
        sessions = []
        for listener in self.listeners:
            for connection in listener.connections:
                session = connection.reactor
                if isinstance(session, ServiceConnection) and session.served:
                    sessions.append(session)
        return sessions

    def on_opened(self) -> None:
        """A connection is up, and is served."""
        self.connections += 1
        self._upkeep.start()

    def on_failure(self, peer: str, error: Exception) -> None:
        """A connection is about to be closed for what its peer did."""
        _log.warning("closing the connection from %s: %s", peer, error)

    def on_refused(self, peer: str, why: str) -> None:
        """An RPC could not be accepted for what its client sent."""
        _log.info("refused a call from %s: %s", peer, why)

    def on_drained(self, session: ServiceConnection) -> None:
        """The last RPC has ended of a connection that takes no more."""
        if self._undrained is not None:
            self._undrained.discard(session)
            if not self._undrained:
                self._drained.set()

    def on_closed(self, session: ServiceConnection, cause: Exception | None) -> None:
        """A connection is gone."""
        if cause is not None:
            _log.info("the connection from %s ended: %s", session.peer_name, cause)
        if session.served:
            self.connections -= 1
        self.on_drained(session)

    def _visit(self, now: float) -> bool:
        for session in self.sessions:
            session.visit(now)
        return self.connections > 0

    def snapshot(self) -> Snapshot:
        """What `metrics` have counted, and what there is now."""
        snapshot = empty_snapshot()
        if self.metrics is not None:
            snapshot["methods"] = self.metrics.methods()
        snapshot["in_flight"] = sum([len(session.rpcs) for session in self.sessions])
        snapshot["connections"] = self.connections
        return snapshot

    # -- the end ---------------------------------------------------------------------------

    async def stop(self, grace: float | None) -> None:
        """Take nothing new, let RPCs end for `grace` seconds, cancel the rest, and close."""
        self.draining = True
        for listener in self.listeners:
            await listener.close_behind()
        self._undrained = {session for session in self.sessions if session.rpcs}
        if not self._undrained:
            self._drained.set()
        for session in self.sessions:
            session.go_away("the server is shutting down")
        self.hurry(grace)
        await self._drained.wait()
        self.cancel_rpcs()
        while self.tasks:
            await asyncio.wait(self.tasks)
        # A client that knows that it is to close does so by itself, and misses nothing.
        closed = [listener.connections.wait_none() for listener in self.listeners]
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*closed), LINGER)
        for listener in self.listeners:
            await listener.stop(grace=_CLOSE_TIMEOUT)
        self.stopped = True
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        self._upkeep.stop()
        self.deadlines.close()
        self.runner.close()

    def hurry(self, grace: float | None) -> None:
        """While it stops: RPCs may last for `grace` more seconds, or for less if so said before."""
        ends = self.loop.time() + (grace or 0.0)
        if ends >= self._grace_ends:
            return
        self._grace_ends = ends
        if self._grace_timer is not None:
            self._grace_timer.cancel()
        if grace:
            self._grace_timer = self.loop.call_at(ends, self._end_grace)
        else:
            self._end_grace()

    def _end_grace(self) -> None:
        self._drained.set()
        self.cancel_rpcs()

    def cancel_rpcs(self) -> None:
        """End every RPC in flight."""
        for session in self.sessions:
            session.cancel_rpcs("the server is shutting down")
