"""connect() and serve(): connections over TCP, TLS and Unix-domain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl as ssl_module
import stat
from collections.abc import Callable, Iterator
from typing import Any, Generic

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw.address import Address, parse_address
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
    """A listening socket and the connections it has accepted. Made by `serve()`.

    Attributes:
        connections: those that are open now.
    """

    def __init__(
        self, listener: asyncio.AbstractServer, connections: OpenConnections, address: Address
    ) -> None:
        self._listener = listener
        self.connections = connections
        self._address = address
        self._socket_inode = _inode(address)

    @property
    def address(self) -> Address:
        """Where it listens: with the port that the system chose, if that was left to it."""
        return self._address

    @property
    def target(self) -> str:
        """The address as `connect()` takes it."""
        return str(self._address)

    def close(self) -> None:
        """Accept no more connections. Those that are open stay open."""
        # The path goes with the socket, unless another server has taken it over meanwhile.
        if self._socket_inode and self._socket_inode == _inode(self._address):
            with contextlib.suppress(OSError):
                os.unlink(self._address.path)
        self._socket_inode = 0
        self._listener.close()

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
        await self._listener.wait_closed()

    async def __aenter__(self) -> RawServer[Inbound, Outbound]:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()


async def serve(
    target: str,
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
        target: as for `connect`; port 0 lets the system choose (see `RawServer.address`).
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
    connections = OpenConnections()
    own_limits = limits or Limits()

    def accept() -> Any:
        return Connection(loop, codec(), reactor(), own_limits, connections)

    address = parse_address(target)
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _remove_stale_socket(address)
            sock.bind(address.path)
            listener: asyncio.AbstractServer = await loop.create_unix_server(
                accept, sock=sock, ssl=ssl, backlog=backlog
            )
        except BaseException:
            sock.close()
            raise
    else:
        server = await loop.create_server(
            accept,
            address.host or None,
            address.port,
            ssl=ssl,
            backlog=backlog,
            reuse_port=reuse_port or None,
        )
        listener = server
        address = Address(address.host, server.sockets[0].getsockname()[1])
    return RawServer(listener, connections, address)


def _inode(address: Address) -> int:
    if not address.path or address.path.startswith("\0"):
        return 0
    try:
        return os.stat(address.path).st_ino
    except OSError:
        return 0


def _remove_stale_socket(address: Address) -> None:
    """Remove a socket file that nobody listens on any more, so that a restart can bind."""
    if address.path.startswith("\0"):
        return
    try:
        if not stat.S_ISSOCK(os.stat(address.path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            os.unlink(address.path)
