"""connect() and serve(): connections over TCP, TLS and Unix-domain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl as ssl_module
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, Generic

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw.address import Address, parse_address
from protosocket_rpc.raw.binding import Binding, bind
from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor


async def connect(
    target: str,
    codec: Codec[Inbound, Outbound],
    reactor: Reactor[Inbound, Outbound],
    *,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    limits: Limits | None = None,
) -> Connection[Inbound, Outbound]:
    """Open one connection; `reactor.on_open` has been called when this returns.

    Args:
        target: ``host:port``, ``unix:path``, ... (`parse_address` lists the forms).
        codec: this connection's own encoder and decoder.
        ssl: the context to speak TLS with; None for none.
        server_hostname: the name to expect in the peer's certificate, instead of the target's.
        limits: what this connection may hold.

    Raises:
        OSError: there is no connection to be had.
        ValueError: the target has no known form.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(loop, codec, reactor, limits or Limits())
    await open_transport(loop, lambda: connection, target, ssl, server_hostname)
    return connection


async def open_transport(
    loop: asyncio.AbstractEventLoop,
    protocol: Callable[[], Any],
    target: str,
    ssl: ssl_module.SSLContext | None,
    server_hostname: str | None,
) -> None:
    """Connect a protocol to a target. Raises as `connect` does."""
    address = parse_address(target)
    if address.path:
        if ssl is not None and server_hostname is None:
            server_hostname = "localhost"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address.path)
            await loop.create_unix_connection(
                protocol, sock=sock, ssl=ssl, server_hostname=server_hostname
            )
        except BaseException:
            sock.close()
            raise
    else:
        await loop.create_connection(
            protocol, address.host, address.port, ssl=ssl, server_hostname=server_hostname
        )


# Seconds that a TLS handshake may take that begins while the server ends.
_HANDSHAKE_TIMEOUT: Final = 1.0


class OpenConnections:
    """The open connections of a server, and a way to wait until there are none."""

    def __init__(self) -> None:
        self._open: set[Connection[Any, Any]] = set()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, connection: Connection[Any, Any]) -> None:
        self._open.add(connection)
        self._none.clear()

    def discard(self, connection: Connection[Any, Any]) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none.set()

    def __iter__(self) -> Iterator[Connection[Any, Any]]:
        return iter(tuple(self._open))

    def __len__(self) -> int:
        return len(self._open)

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
        listeners: list[asyncio.AbstractServer],
        connections: OpenConnections,
        binding: Binding,
        adopt: Callable[[socket.socket], Coroutine[Any, Any, object]],
    ) -> None:
        self._listeners = listeners
        self._binding = binding
        self._adopt = adopt
        self.connections = connections
        self.address: Address = binding.address

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
        accepted: list[socket.socket] = []
        for sock in self._binding.sockets:
            with contextlib.suppress(OSError):  # until there are no more, or it is closed
                while True:
                    accepted.append(sock.accept()[0])
        self.close()
        adopted = [asyncio.ensure_future(self._adopt(sock)) for sock in accepted]
        if adopted:
            _, late = await asyncio.wait(adopted, timeout=_HANDSHAKE_TIMEOUT)
            for task in late:
                task.cancel()
            await asyncio.gather(*adopted, return_exceptions=True)

    async def stop(self, grace: float | None = None) -> None:
        """Accept no more, close every connection, and wait until each reactor was told.

        Args:
            grace: seconds that a peer has to read what is still queued for it; then its
                connection is aborted. None is for ever.
        """
        self.close()
        for connection in self.connections:
            connection.close()
        try:
            await asyncio.wait_for(self.connections.wait_none(), grace)
        except asyncio.TimeoutError:
            for connection in self.connections:
                connection.abort(ConnectionClosed("the server stopped; its peer did not read"))
            await self.connections.wait_none()
        for listener in self._listeners:
            await listener.wait_closed()

    async def __aenter__(self) -> RawServer[Inbound, Outbound]:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()


async def serve(
    target: str | Binding,
    codec: Callable[[], Codec[Inbound, Outbound]],
    reactor: Callable[[], Reactor[Inbound, Outbound]],
    *,
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
    backlog: int = 1024,
    reuse_port: bool = False,
) -> RawServer[Inbound, Outbound]:
    """Listen; accepted connections are served until the server is stopped.

    Args:
        target: as for `connect`; port 0 lets the system choose (see `RawServer.address`). Or
            what `bind` made of one.
        codec, reactor: called once for each connection; a class will do.
        ssl: the context to speak TLS with; None for none.
        limits: what each connection may hold.
        backlog: connections that the system may hold before they are accepted.
        reuse_port: share the port with other processes that say so too.

    Raises:
        OSError: the address is not to be had.
        ValueError: the target has no known form.
    """
    loop = asyncio.get_running_loop()
    binding = bind(target, reuse_port=reuse_port) if isinstance(target, str) else target
    connections = OpenConnections()
    own_limits = limits or Limits()

    def accept() -> Any:
        return Connection(
            loop, codec(), reactor(), own_limits, connections, reads_only_while_writable=True
        )

    listeners: list[asyncio.AbstractServer] = []
    try:
        for sock in binding.sockets:
            make = loop.create_unix_server if binding.address.path else loop.create_server
            listeners.append(await make(accept, sock=sock, ssl=ssl, backlog=backlog))
    except BaseException:
        for listener in listeners:
            listener.close()
        binding.close()
        raise

    async def adopt(sock: socket.socket) -> None:
        sock.setblocking(False)
        await loop.connect_accepted_socket(accept, sock, ssl=ssl)

    return RawServer(listeners, connections, binding, adopt)
