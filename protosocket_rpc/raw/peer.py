"""How a peer is called: the form that gRPC uses."""

from __future__ import annotations

import socket
from typing import Any

from protosocket_rpc.raw.connection import Connection


def peer_name(connection: Connection[Any, Any]) -> str:
    """``ipv4:1.2.3.4:port``, ``ipv6:[::1]:port``, ``unix:path``, ``memory:name`` or ``unknown``."""
    memory = connection.get_extra_info("memory")
    if memory is not None:
        return f"memory:{memory}"
    sock = connection.get_extra_info("socket")
    where = connection.get_extra_info("peername")
    if sock is None or where is None:
        return "unknown"
    if sock.family == socket.AF_INET6:
        return f"ipv6:[{where[0]}]:{where[1]}"
    if sock.family == socket.AF_INET:
        return f"ipv4:{where[0]}:{where[1]}"
    path = where.decode() if isinstance(where, bytes) else where
    return f"unix-abstract:{path[1:]}" if path.startswith("\0") else f"unix:{path}"
