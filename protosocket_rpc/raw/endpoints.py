"""connect(): a connection over TCP, TLS or a Unix-domain socket, or within the process."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import Callable
from typing import Any

from protosocket_rpc.raw.address import parse_address
from protosocket_rpc.raw.busy_poll import make_connection
from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.memory import connect_in_memory
from protosocket_rpc.raw.reactor import Reactor
from protosocket_rpc.raw.reporting import Reporter


async def connect(
    target: str,
    codec: Codec[Inbound, Outbound],
    reactor: Reactor[Inbound, Outbound],
    *,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    limits: Limits | None = None,
    log_ends: bool = True,
    busy_poll: float | None = None,
) -> Connection[Inbound, Outbound]:
    """Open one connection; `reactor.on_open` has been called when this returns.

    Args:
        target: ``host:port``, ``unix:path``, ... (`parse_address` lists the forms).
        codec: this connection's own encoder and decoder.
        ssl: the context to speak TLS with; None for none.
        server_hostname: the name to expect in the peer's certificate, instead of the target's.
        limits: what this connection may hold.
        log_ends: log why the connection has ended, unless it was closed in good order. For a
            reactor that does so itself, False.
        busy_poll: poll instead of sleeping for so many seconds after each traffic, and while
            `Reactor.awaits`: a shorter latency, for a core that is never idle meanwhile. None for
            not at all.

    Raises:
        OSError: there is no connection to be had; of the class that says why, such as
            ConnectionRefusedError or ssl.SSLError.
        ValueError: the target has no known form, or is one that has no TLS.
    """
    loop = asyncio.get_running_loop()
    registry = Reporter() if log_ends else None
    connection = make_connection(
        loop, codec, reactor, limits or Limits(), registry, busy_poll=busy_poll
    )
    try:
        await open_transport(loop, lambda: connection, target, ssl, server_hostname)
    except BaseException as error:
        connection.give_up()
        # An SSLError has more to say than its text.
        if isinstance(error, OSError) and not isinstance(error, ssl_module.SSLError):
            raise _with_target(error, target) from error
        raise
    return connection


def _with_target(error: OSError, target: str) -> OSError:
    """The same error, with a text that says where."""
    if error.errno is None:
        return type(error)(f"cannot connect to {target}: {error}")
    return type(error)(error.errno, f"cannot connect to {target}: {error.strerror}")


async def open_transport(
    loop: asyncio.AbstractEventLoop,
    protocol: Callable[[], Any],
    target: str,
    ssl: ssl_module.SSLContext | None,
    server_hostname: str | None,
) -> None:
    """Connect a protocol to a target. Raises as `connect` does."""
    address = parse_address(target)
    if address.memory:
        if ssl is not None:
            raise ValueError(f"there is no TLS for {target}, which never leaves the process")
        await connect_in_memory(loop, protocol, address.memory)
    elif address.path:
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
