"""One client's connection to a server: RPCs that are opened meet their handlers."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, Final

from protosocket_rpc.eager import EagerRunner
from protosocket_rpc.errors import ConnectionClosed, PeerRefused, ProtocolError
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.peer import peer_name
from protosocket_rpc.rpc.message import CANCEL
from protosocket_rpc.service.auth import Auth, auth_of
from protosocket_rpc.service.context import ServicerContext
from protosocket_rpc.service.credentials import ServerCredentials
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.handler import Handler
from protosocket_rpc.service.limits import MAX_METHOD_LENGTH
from protosocket_rpc.service.metrics import REFUSED
from protosocket_rpc.service.server_session import ServerSession
from protosocket_rpc.status import INTERNAL, OK, RESOURCE_EXHAUSTED, UNAVAILABLE, UNIMPLEMENTED
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    import asyncio

    from protosocket_rpc.service.running import Running


# Seconds that a client has to close a connection that takes no further RPC. If the server closed
# first, with requests on their way, the client's system might drop what it has not read yet.
LINGER: Final = 1.0
# The connections of clients that came all at once are not to end all at once.
_AGE_JITTER: Final = 0.1


_NONE: Final[set[int]] = set()


class ServiceConnection(ServerSession):
    """One client's connection to a server.

    Attributes:
        served: it is open, and was not one too many.
    """

    __slots__ = (
        "_auth",
        "_count_rpc",
        "_credentials",
        "_expires_at",
        "_given_up",
        "_handlers",
        "_idle_id",
        "_idle_since",
        "_limited",
        "_peer_name",
        "_running",
        "deadlines",
        "runner",
        "served",
    )

    def __init__(self, running: Running, credentials: ServerCredentials) -> None:
        super().__init__(running.limits)
        self._credentials = credentials
        self.runner: EagerRunner = running.runner
        self.deadlines: Deadlines = running.deadlines
        self._running = running
        self._handlers: dict[str, Handler] = running.routes.handlers
        self._count_rpc = running.count_rpc
        self._limited = (
            running.maximum_concurrent_rpcs is not None
            or running.connectivity.max_concurrent_rpcs is not None
        )
        self.tells_ends = self._limited
        self._peer_name = ""
        self.served = False
        # Ids that this batch cancels.
        self._given_up: set[int] = _NONE
        # When it is too old, and since when it is idle, in the loop's time; its last id by then.
        # 0.0: since it was last visited.
        self._expires_at = math.inf
        self._idle_since = 0.0
        self._idle_id = 0
        self._auth: Auth | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's."""
        return self._running.loop

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Those of all handlers of the server."""
        return self._running.tasks

    @property
    def peer_name(self) -> str:
        """Where the client is, as `ServicerContext.peer` has it."""
        if not self._peer_name:
            self._peer_name = peer_name(self.sender())
        return self._peer_name

    @property
    def auth(self) -> Auth:
        """Who the client is, as far as the connection can tell."""
        if self._auth is None:
            self._auth = auth_of(self.sender())
        return self._auth

    def on_open(self, connection: Connection[Frame, bytes]) -> None:
        self.connection = connection
        # The name is made when it is first asked for, which of many connections is never. Only
        # TLS has forgotten it by the end; uvloop remembers what it was asked before.
        if connection.get_extra_info("peername") and connection.get_extra_info("sslcontext"):
            self._peer_name = peer_name(connection)
        self._credentials.check(connection)
        super().on_open(connection)
        running = self._running
        limit = running.connectivity.max_connections
        if limit is not None and running.connections >= limit:
            self.go_away(
                f"Connection limit exceeded! (max_connections={limit})", RESOURCE_EXHAUSTED
            )
            self.loop.call_later(LINGER, self.close)
            return
        self.served = True
        running.on_opened()
        connectivity = running.connectivity
        if connectivity.max_idle is not None:
            self._idle_since = self.loop.time()
        age = connectivity.max_age
        if age is not None:
            self._expires_at = self.loop.time() + age * random.uniform(
                1 - _AGE_JITTER, 1 + _AGE_JITTER
            )
        if running.draining:
            self.go_away("the server is shutting down")
            if running.stopped:
                self.close()

    def accept(self, frame: Frame) -> None:
        handler = self._handlers.get(frame.method)
        if handler is None:
            handler = self._running.routes.find(frame)
        if handler is None:
            name = frame.method
            if len(name) > MAX_METHOD_LENGTH:
                name = name[:MAX_METHOD_LENGTH] + "..."
            self._running.on_refused(self.peer_name, f"there is no method {name!r}")
            self.answer_error(frame.id, UNIMPLEMENTED, "Method not found!")
        elif not self._limited or self._admit(frame.id):
            count = self._count_rpc
            rpc: ServicerContext[Any, Any]
            rpc = (
                ServicerContext(self, frame, handler)
                if count is None
                else count(self, frame, handler)
            )
            rpc.start()

    def takes_late(self, id: int) -> bool:
        return super().takes_late(id) and not self._running.draining

    def _admit(self, id: int) -> bool:
        """Count an RPC; False if it is one too many, and was answered."""
        running = self._running
        most = running.maximum_concurrent_rpcs
        most_here = running.connectivity.max_concurrent_rpcs
        if most_here is not None and len(self.rpcs) >= most_here:
            limit = f"max_concurrent_rpcs={most_here} on one connection"
        elif most is not None and running.rpcs >= most:
            limit = f"maximum_concurrent_rpcs={most}"
        else:
            running.rpcs += 1
            return True
        self.answer_error(id, RESOURCE_EXHAUSTED, f"Concurrent RPC limit exceeded! ({limit})")
        return False

    def answer_error(self, id: int, code: int, message: str) -> None:
        metrics = self._running.metrics
        if metrics is not None:
            metrics.count(REFUSED, code, 0.0)
        super().answer_error(id, code, message)

    def on_rpc_ended(self) -> None:
        if self._limited:
            self._running.rpcs -= 1
        super().on_rpc_ended()

    def deadline_of(self, frame: Frame) -> float | None:
        """When an RPC that opens now has to end, in the loop's time; None if it need not begin.

        Its time runs from when it arrived: one that has waited for others of its batch for too
        long, or was given up meanwhile, is answered without being served.
        """
        now = self.loop.time()
        if not self.arrived_at:
            self.arrived_at = now
            batch = self.batch
            self._given_up = _NONE
            if len(batch) > 1:
                self._given_up = {each.id for each in batch if each.code == CANCEL}
        deadline = self.arrived_at + frame.timeout_us / 1e6
        if deadline <= now or frame.id in self._given_up:
            return None
        return deadline

    # -- age, idleness, silence ------------------------------------------------------------

    def visit(self, now: float) -> None:
        """Look after the connection, now and then."""
        connectivity = self._running.connectivity
        if not self._idle_since or self.rpcs or self.last_id != self._idle_id:
            self._idle_since = now
            self._idle_id = self.last_id
        idle = now - self._idle_since
        if self.draining:
            if not self.rpcs and idle >= LINGER:
                self.close()
            elif now >= self._expires_at:
                self.cancel_rpcs("the connection is too old (max_age, max_age_grace)")
        elif now >= self._expires_at:
            self.go_away("the connection is too old (max_age)")
            grace = connectivity.max_age_grace
            self._expires_at = math.inf if grace is None else now + grace
            self._idle_since = now
        elif connectivity.max_idle is not None and idle >= connectivity.max_idle:
            self.go_away("the connection was idle for too long (max_idle)")
            self._idle_since = now
        interval = connectivity.keepalive_interval
        timeout = connectivity.keepalive_timeout
        if interval is not None and not self.keep_alive(now, interval, timeout):
            self.sender().abort(
                ConnectionClosed(f"the client has not answered a ping within {timeout:g} s")
            )

    # -- the end ---------------------------------------------------------------------------

    def cancel_rpcs(self, reason: str) -> None:
        """End every RPC in flight."""
        for rpc in list(self.rpcs.values()):
            if isinstance(rpc, ServicerContext):
                rpc.stop(UNAVAILABLE, reason)

    def go_away(self, reason: str, code: int = OK) -> None:
        self._expires_at = math.inf
        super().go_away(reason, code)

    def on_failure(self, error: Exception) -> None:
        self._running.on_failure(self.peer_name, error)
        # The text of any other error is not for a peer to read.
        if isinstance(error, ProtocolError):
            reason = f"protocol error: {error}"
        else:
            reason = str(error) if isinstance(error, PeerRefused) else "server error"
        self.go_away(reason, INTERNAL)

    def on_oversized(self, message: Frame) -> None:
        self._running.on_refused(self.peer_name, self.too_large(message.announced))
        super().on_oversized(message)

    def on_drained(self) -> None:
        self._running.on_drained(self)
        if self.peer is None and self.heard:
            self.close()  # it does not know that it is to close

    def close(self) -> None:
        """Close the connection behind what is still to be sent."""
        if self.connection is not None:
            self.connection.close()

    def on_close(self, cause: Exception | None) -> None:
        super().on_close(cause)
        self._running.on_closed(self, cause)
