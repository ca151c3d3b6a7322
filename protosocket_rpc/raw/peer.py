"""How a peer is called: the form that gRPC uses."""

from __future__ import annotations

from typing import Any

from protosocket_rpc.raw.connection import Connection


def peer_name(connection: Connection[Any, Any]) -> str:
    """``ipv4:1.2.3.4:port``, ``ipv6:[::1]:port``, ``unix:path``, ``memory:name`` or ``unknown``."""
    memory = connection.get_extra_info("memory")
    if memory is not None:
        return f"memory:{memory}"
    where = connection.get_extra_info("peername")
    if where is None:
        return "unknown"
    if isinstance(where, tuple):  # of four in IPv6. The socket would cost each connection memory.
        return f"ipv6:[{where[0]}]:{where[1]}" if len(where) > 2 else f"ipv4:{where[0]}:{where[1]}"
    path = where.decode() if isinstance(where, bytes) else where
    return f"unix-abstract:{path[1:]}" if path.startswith("\0") else f"unix:{path}"
