"""What both sides of RPC over a user's own messages share. Sans-I/O."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from protosocket_rpc.errors import ConnectionClosed, OutputQueueFull
from protosocket_rpc.rpc.message import Envelope, MessageType
from protosocket_rpc.rpc.session import Session

Inbound = TypeVar("Inbound")
Outbound = TypeVar("Outbound")
Request = TypeVar("Request")
Response = TypeVar("Response")


class OwnMessageSession(Session[Envelope[Inbound], Outbound], Generic[Inbound, Outbound]):
    """A session whose messages are of a user's own types.

    Attributes:
        outbound: makes and stamps the messages that leave.
    """

    def __init__(self, outbound: MessageType[Outbound]) -> None:
        super().__init__()
        self.outbound = outbound
        self._held_back: deque[Outbound] = deque()

    def send(self, message: Outbound, id: int) -> None:
        """Send one message as part of an RPC. Raises as `Connection.send` does."""
        self.sender().send(self.outbound.set_message_id(message, id))

    def send_cancel(self, id: int) -> None:
        """Send a CANCEL. It is never lost: with no room for it, it leaves when there is."""
        message = self.outbound.cancelled(id)
        try:
            self.sender().send(message)
        except OutputQueueFull:
            self._held_back.append(message)
        except ConnectionClosed:
            pass  # that ends the RPC as well

    def backlog(self) -> int:
        return len(self._held_back)

    def on_writable(self) -> None:
        held_back = self._held_back
        if held_back:
            connection = self.sender()
            while held_back and connection.writable:
                connection.send(held_back.popleft())
