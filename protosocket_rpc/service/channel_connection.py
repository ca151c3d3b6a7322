"""A channel's connection to its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.service.client_session import ClientSession
from protosocket_rpc.service.peer import peer_name
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    import asyncio

    from protosocket_rpc.service.connector import Connector


class ChannelConnection(ClientSession):
    """A channel's connection."""

    def __init__(self, connector: Connector) -> None:
        super().__init__(connector.limits)
        self._connector = connector
        self.peer_name = ""
        self.closed: asyncio.Future[None] = connector.loop.create_future()

    def on_open(self, connection: Connection[Frame, bytes]) -> None:
        super().on_open(connection)
        self.peer_name = peer_name(connection)

    def on_failure(self, error: Exception) -> None:
        self._connector.on_failure(error)

    def on_draining(self) -> None:
        self._connector.on_gone(self)

    def on_messages(self, messages: list[Frame]) -> None:
        super().on_messages(messages)
        if self.draining and not self.rpcs:
            self.sender().close()

    def on_close(self, cause: Exception | None) -> None:
        super().on_close(cause)
        self._connector.on_gone(self)
        if not self.closed.done():
            self.closed.set_result(None)
