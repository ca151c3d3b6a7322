"""From accepted sockets to connections, with TLS or without.

A server of asyncio's own says nothing of a TLS handshake that fails, and in some versions waits
for the last one to time out before it has ended: hence a listener of our own for TLS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import sys
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from protosocket_rpc.raw.binding import Binding
from protosocket_rpc.raw.memory import MemoryListener
from protosocket_rpc.raw.reporting import log
from protosocket_rpc.raw.tcp_keepalive import keep_alive

# Connections accepted in one turn of the loop: others want their turns, too.
_AT_ONCE: Final = 100
# Seconds until the next attempt when the system cannot spare a file descriptor, say.
_PAUSE: Final = 1.0


class Acceptor:
    """Makes connections of accepted sockets: each in a task, which ends with the handshake.

    Args:
        protocol: makes what the connection belongs to, once for each.
        ssl: the context to speak TLS with; None for none.
        handshake_timeout: seconds that a TLS handshake may take.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: Callable[[], Any],
        ssl: ssl_module.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        self._loop = loop
        self._protocol = protocol
        self._ssl = ssl
        self._handshake_timeout = handshake_timeout
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, listener: socket.socket) -> bool:
        """Accept those who wait, up to a number. False when nobody waits any more.

        Raises:
            OSError: the system cannot.
        """
        for _ in range(_AT_ONCE):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionAbortedError:
                continue  # one that did not wait
            sock.setblocking(False)
            task = self._loop.create_task(self._connect(sock, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def _connect(self, sock: socket.socket, peer: object) -> None:
        timeout = self._handshake_timeout if self._ssl is not None else None
        try:
            await self._loop.connect_accepted_socket(
                self._protocol, sock, ssl=self._ssl, ssl_handshake_timeout=timeout
            )
        except OSError as error:
            log.warning("no TLS with %s: %s", peer, error or type(error).__name__)

    async def settle(self, timeout: float) -> None:
        """Wait until every handshake has ended; those that last longer are given up.

        Args:
            timeout: seconds.
        """
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


class TlsListener:
    """Listens on one socket, as `asyncio.Server` does without TLS."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        acceptor: Acceptor,
        backlog: int,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._acceptor = acceptor
        self._pause: asyncio.TimerHandle | None = None
        sock.listen(backlog)
        self._resume()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            self._acceptor.accept(self._socket)
        except OSError as error:
            log.error("cannot accept connections: %s", error)
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(_PAUSE, self._resume)

    def close(self) -> None:
        """Accept no more."""
        if self._pause is not None:
            self._pause.cancel()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    async def wait_closed(self) -> None:
        """As `asyncio.Server` has it: there is nothing to wait for."""


Listener: TypeAlias = asyncio.AbstractServer | TlsListener | MemoryListener


async def listen(
    loop: asyncio.AbstractEventLoop,
    binding: Binding,
    protocol: Callable[[], Any],
    backlog: int,
    tls: Acceptor | None = None,
) -> list[Listener]:
    """Accept connections on all that a binding holds.

    Args:
        protocol: makes what a connection belongs to, once for each.
        backlog: connections that the system may hold before they are accepted.
        tls: accepts them instead, to speak TLS.

    Raises:
        OSError: the system cannot.
        ValueError: there is no TLS for such an address.
    """
    if binding.memory is not None:
        if tls is not None:
            raise ValueError(
                f"there is no TLS for {binding.address}, which never leaves the process"
            )
        binding.memory.listen(loop, protocol)
        return [binding.memory]
    listeners: list[Listener] = []
    try:
        for sock in binding.sockets:
            keep_alive(sock)
            if tls is not None:
                listeners.append(TlsListener(loop, sock, tls, backlog))
            else:
                sock.listen(backlog)  # if it cannot, uvloop does not say so
                make: Any = loop.create_unix_server if binding.address.path else loop.create_server
                options: dict[str, Any] = {}
                if binding.address.path and sys.version_info >= (3, 13):
                    # The binding does, and not while another process has the socket, too.
                    options["cleanup_socket"] = False
                listeners.append(await make(protocol, sock=sock, backlog=backlog, **options))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners
