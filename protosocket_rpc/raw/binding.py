"""Sockets bound to an address, before anything listens on them."""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from protosocket_rpc.raw.address import Address, parse_address
from protosocket_rpc.raw.memory import MemoryListener


class Binding:
    """Sockets, or a name within the process, that hold one address. Made by `bind()`."""

    def __init__(
        self,
        sockets: list[socket.socket],
        address: Address,
        memory: MemoryListener | None = None,
    ) -> None:
        self.sockets = sockets
        self.address = address
        self.memory = memory
        self._inode = _inode(address)

    @classmethod
    def of_socket(cls, sock: socket.socket) -> Binding:
        """What was bound elsewhere. A Unix socket's file is left to those who have made it.

        Raises:
            ValueError: it is no stream socket of a known family.
        """
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"descriptor {sock.fileno()} is no stream socket")
        where = sock.getsockname()
        if sock.family == socket.AF_UNIX:
            path = os.fsdecode(where)
            address = Address(path=path)
        elif sock.family in (socket.AF_INET, socket.AF_INET6):
            address = Address(where[0], where[1])
        else:
            raise ValueError(f"descriptor {sock.fileno()} is a socket of another family")
        sock.setblocking(False)
        binding = cls([sock], address)
        binding._inode = 0
        return binding

    def remove_path(self) -> None:
        """Remove a Unix socket's file, unless another server has taken it over meanwhile."""
        if self._inode and self._inode == _inode(self.address):
            with contextlib.suppress(OSError):
                os.unlink(self.address.path)
        self._inode = 0

    def close(self) -> None:
        """Give the address back."""
        self.remove_path()
        for sock in self.sockets:
            sock.close()
        if self.memory is not None:
            self.memory.close()


def bind(target: str, *, reuse_port: bool = False) -> Binding:
    """Take an address, so that nobody else can: all that its host name stands for.

    Args:
        target: as for `connect`. Port 0 lets the system choose one; ``[::]`` is every address of
            the machine, IPv4 included.
        reuse_port: share the port with other processes that say so too.

    Raises:
        OSError: the address cannot be bound.
        ValueError: the target has no known form.
    """
    address = parse_address(target)
    if address.memory:
        return Binding([], address, MemoryListener(address.memory))
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _remove_stale_socket(address)
            sock.bind(address.path)
        except BaseException:
            sock.close()
            raise
        return Binding([sock], address)
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, _, protocol, _, where in socket.getaddrinfo(
            address.host or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            # Named, or asyncio does not know that TCP_NODELAY is to be set on what it accepts.
            sock = socket.socket(family, socket.SOCK_STREAM, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                dual = 0 if where[0] == "::" else 1
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, dual)
            sock.bind((where[0], port, *where[2:]))
            port = sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return Binding(sockets, Address(address.host, port))


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
