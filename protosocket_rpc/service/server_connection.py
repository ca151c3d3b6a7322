"""One client's connection to a server: RPCs that are opened meet their handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosocket_rpc.eager import EagerRunner
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.service.context import ServicerContext
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.handlers import Handler
from protosocket_rpc.service.peer import peer_name
from protosocket_rpc.service.server_session import ServerSession
from protosocket_rpc.status import RESOURCE_EXHAUSTED, UNIMPLEMENTED
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    import asyncio

    from protosocket_rpc.service.running import Running


class ServiceConnection(ServerSession):
    """One client's connection to a server."""

    def __init__(self, running: Running) -> None:
        super().__init__(running.limits)
        self.loop = running.loop
        self.runner: EagerRunner = running.runner
        self.deadlines: Deadlines = running.deadlines
        self.tasks: set[asyncio.Task[None]] = running.tasks
        self._running = running
        self._handlers: dict[str, Handler] = running.handlers
        self._most_rpcs = running.maximum_concurrent_rpcs
        self.peer_name = ""

    def on_open(self, connection: Connection[Frame, bytes]) -> None:
        super().on_open(connection)
        self.peer_name = peer_name(connection)
        self._running.sessions.add(self)

    def accept(self, frame: Frame) -> None:
        handler = self._handlers.get(frame.method)
        if handler is None:
            self.answer_error(frame.id, UNIMPLEMENTED, "Method not found!")
        elif self._most_rpcs is not None and self._running.in_flight() >= self._most_rpcs:
            self.answer_error(
                frame.id,
                RESOURCE_EXHAUSTED,
                f"Concurrent RPC limit exceeded! (maximum_concurrent_rpcs={self._most_rpcs})",
            )
        else:
            ServicerContext(self, frame, handler).start()

    def on_failure(self, error: Exception) -> None:
        self._running.on_failure(self.peer_name, error)
        self.go_away(f"protocol error: {error}")

    def on_close(self, cause: Exception | None) -> None:
        super().on_close(cause)
        self._running.on_closed(self, cause)

    def on_drained(self) -> None:
        if self.connection is not None:
            self.connection.close()
