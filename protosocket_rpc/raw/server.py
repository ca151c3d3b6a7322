"""serve(): connections accepted over TCP, TLS and Unix-domain sockets, or within the process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.forks import leave_to_parent_after_fork, release_socket
from protosocket_rpc.raw.accepting import Acceptor, Listener, listen
from protosocket_rpc.raw.address import Address
from protosocket_rpc.raw.binding import Binding, bind
from protosocket_rpc.raw.busy_poll import make_connection
from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor
from protosocket_rpc.raw.reporting import Reporter, log

# Seconds that a TLS handshake may take that begins while the server ends.
_LAST_HANDSHAKE: Final = 1.0


class OpenConnections(Reporter):
    """The open connections of a server, and a way to wait until there are none.

    Args:
        log_ends: log why they end, unless they were closed in good order.
    """

    def __init__(self, log_ends: bool = True) -> None:
        # A dict of nothing: of many, it takes half the memory of a set.
        self._open: dict[Connection[Any, Any], None] = {}
        self._none = asyncio.Event()
        self._none.set()
        self._log_ends = log_ends
        self._closing = False

    def add(self, connection: Connection[Any, Any]) -> None:
        self._open[connection] = None
        self._none.clear()
        if self._closing:
            connection.close()

    def discard(self, connection: Connection[Any, Any]) -> None:
        if self._log_ends:
            super().discard(connection)
        self._open.pop(connection, None)
        if not self._open:
            self._none.set()

    def __iter__(self) -> Iterator[Connection[Any, Any]]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Close them, and those that are accepted but not open yet."""
        self._closing = True
        for connection in self:
            connection.close()

    async def wait_none(self) -> None:
        await self._none.wait()


class RawServer(Generic[Inbound, Outbound]):
    """Listening sockets and the connections they have accepted. Made by `serve()`.

    Attributes:
        connections: those that are open now.
        address: where it listens, with the port that the system chose if that was left to it.
    """

    def __init__(
        self,
        listeners: list[Listener],
        connections: OpenConnections,
        binding: Binding,
        acceptor: Acceptor,
    ) -> None:
        self._listeners = listeners
        self._binding = binding
        self._acceptor = acceptor
        self.connections = connections
        self.address: Address = binding.address
        leave_to_parent_after_fork(self)

    @property
    def target(self) -> str:
        """The address as `connect()` takes it."""
        return str(self.address)

    def close(self) -> None:
        """Accept no more connections. Those that are open stay open."""
        self._binding.remove_path()
        for listener in self._listeners:
            listener.close()

    async def close_behind(self) -> None:
        """As `close`, behind those who have connected: the system has told them so already."""
        loop = asyncio.get_running_loop()
        for sock in self._binding.sockets:
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
        # asyncio takes two turns to accept, and drops who is in between when it closes.
        await asyncio.sleep(0)
        for sock in self._binding.sockets:
            with contextlib.suppress(OSError):  # the system cannot, or it is closed already
                while self._acceptor.accept(sock):
                    pass
        self.close()
        await self._acceptor.settle(_LAST_HANDSHAKE)

    async def stop(self, grace: float | None = 5.0) -> None:
        """Accept no more, close every connection, and wait until each reactor was told.

        Args:
            grace: seconds that a peer has to read what is still queued for it; then its
                connection is aborted. None is for ever.
        """
        self.close()
        self.connections.close()
        await self._acceptor.settle(0)
        try:
            await asyncio.wait_for(self.connections.wait_none(), grace)
        except asyncio.TimeoutError:
            for connection in self.connections:
                connection.abort(ConnectionClosed("the server stopped; its peer did not read"))
            await self.connections.wait_none()
        for listener in self._listeners:
            await listener.wait_closed()

    def leave_to_parent(self) -> None:
        """In a forked child: the parent alone serves."""
        for sock in self._binding.sockets:
            release_socket(sock)
        for connection in self.connections:
            release_socket(connection.get_extra_info("socket"))

    async def __aenter__(self) -> RawServer[Inbound, Outbound]:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()


class _Refusal(asyncio.Protocol):
    """What becomes of a connection for which there is no codec or no reactor."""

    def connection_made(self, transport: Any) -> None:
        transport.abort()


async def serve(
    target: str | Binding,
    codec: Callable[[], Codec[Inbound, Outbound]],
    reactor: Callable[[], Reactor[Inbound, Outbound]],
    *,
    ssl: ssl_module.SSLContext | None = None,
    ssl_handshake_timeout: float = 10.0,
    limits: Limits | None = None,
    backlog: int = 1024,
    reuse_port: bool = False,
    log_ends: bool = True,
    busy_poll: float | None = None,
) -> RawServer[Inbound, Outbound]:
    """Listen; accepted connections are served until the server is stopped.

    Args:
        target: as for `connect`; port 0 lets the system choose (see `RawServer.address`). Or
            what `bind` made of one.
        codec, reactor: called once for each connection; a class will do.
        ssl: the context to speak TLS with; None for none.
        ssl_handshake_timeout: seconds that a peer has for its part of the TLS handshake.
        limits: what each connection may hold.
        backlog: connections that the system may hold before they are accepted.
        reuse_port: share the port with other processes that say so too.
        log_ends: log why a connection has ended, unless it was closed in good order. For a
            reactor that does so itself, False.
        busy_poll: poll instead of sleeping for so many seconds after each traffic, and while
            `Reactor.awaits`: a shorter latency, for a core that is never idle meanwhile. None for
            not at all.

    Raises:
        OSError: the address cannot be bound.
        ValueError: the target has no known form, or is one that has no TLS.
    """
    loop = asyncio.get_running_loop()
    binding = bind(target, reuse_port=reuse_port) if isinstance(target, str) else target
    connections = OpenConnections(log_ends)
    own_limits = limits or Limits()

    def accept() -> Any:
        try:
            return make_connection(
                loop,
                codec(),
                reactor(),
                own_limits,
                connections,
                busy_poll=busy_poll,
                reads_only_while_writable=True,
            )
        except Exception:
            log.exception("a connection is refused: its codec or its reactor cannot be made")
            return _Refusal()

    acceptor = Acceptor(loop, accept, ssl, ssl_handshake_timeout)
    try:
        tls = None if ssl is None else acceptor
        listeners = await listen(loop, binding, accept, backlog, tls)
    except BaseException:
        binding.close()
        raise
    return RawServer(listeners, connections, binding, acceptor)
