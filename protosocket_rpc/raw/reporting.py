"""Log lines about connections: what went wrong with which peer."""

from __future__ import annotations

import logging
import ssl
from typing import Any

from protosocket_rpc.errors import ProtocolError
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.peer import peer_name

log = logging.getLogger("protosocket_rpc.raw")


class Reporter:
    """A registry of connections that only says how they ended."""

    def add(self, connection: Connection[Any, Any]) -> None:
        pass

    def discard(self, connection: Connection[Any, Any]) -> None:
        """Log why it has ended, unless it was closed in good order."""
        failure = connection.failure
        if failure is None:
            return
        peer = peer_name(connection)
        if isinstance(failure, ProtocolError):
            log.warning("closed the connection with %s: %s", peer, failure)
        elif isinstance(failure, (ConnectionError, TimeoutError, ssl.SSLError)):
            log.info("lost the connection with %s: %s", peer, failure)
        else:
            log.error("the connection with %s failed", peer, exc_info=failure)
