"""The table of a connection's RPCs: each message goes to the RPC whose id it bears.

Sans-I/O, and shared by both sides, by own-message RPC and by service calls. What makes a side a
client or a server is what it does with a message for an id that it does not know.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.reactor import Reactor
from protosocket_rpc.rpc.message import CANCEL, END, NORMAL, Tagged

Message = TypeVar("Message", bound=Tagged)
Outbound = TypeVar("Outbound")


@mypyc_attr(allow_interpreted_subclasses=True)
class Rpc(Generic[Message]):
    """One RPC in flight. The four ways in which its peer may be heard, or never again."""

    id: int = 0
    streams_replies: bool = False

    def on_message(self, message: Message) -> None:
        """A NORMAL message arrived."""
        raise NotImplementedError

    def on_end(self, message: Message) -> None:
        """An END arrived: the peer's stream is complete."""
        raise NotImplementedError

    def on_cancel(self, message: Message) -> None:
        """A CANCEL arrived."""
        raise NotImplementedError

    def on_oversized(self, message: Message) -> None:
        """A message for this RPC was too large to take, and was skipped."""
        raise NotImplementedError

    def on_lost(self, cause: Exception | None) -> None:
        """The connection is gone."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Session(Reactor[Message, Outbound]):
    """The reactor of a connection that carries RPCs.

    Attributes:
        rpcs: those in flight, by id. An RPC removes itself when it has ended.
        connection: where messages leave; None before it is open.
    """

    __slots__ = (
        "connection",
        "lost",
        "rpcs",
    )

    def __init__(self) -> None:
        self.rpcs: dict[int, Rpc[Message]] = {}
        self.connection: Connection[Message, Outbound] | None = None
        self.lost = False

    def sender(self) -> Connection[Message, Outbound]:
        """The open connection. Raises ConnectionClosed before it is open."""
        if self.connection is None:
            raise ConnectionClosed("the connection is not open yet")
        return self.connection

    def on_open(self, connection: Connection[Message, Outbound]) -> None:
        self.connection = connection

    def on_messages(self, messages: list[Message]) -> None:
        rpcs = self.rpcs
        for message in messages:
            rpc = rpcs.get(message.id) if rpcs else None
            if rpc is None:
                self.on_unknown(message)
                continue
            code = message.code
            if code == NORMAL:
                rpc.on_message(message)
            elif code == END:
                rpc.on_end(message)
            elif code == CANCEL:
                rpc.on_cancel(message)
            else:
                rpc.on_oversized(message)

    def awaits(self) -> bool:
        # Streams of replies may be open for as long as there is a connection.
        for rpc in self.rpcs.values():  # noqa: SIM110  # any() would need a generator
            if not rpc.streams_replies:
                return True
        return False

    def on_unknown(self, message: Message) -> None:
        """A message arrived for an id that is not in flight."""
        raise NotImplementedError

    def on_eof_of_server(self) -> bool:
        """A client's `on_eof`: a server that has closed reads no more of what waits for it."""
        connection = self.sender()
        if not connection.writable:
            connection.abort(ConnectionClosed("the server closed before it had read its requests"))
        return False

    def on_close(self, cause: Exception | None) -> None:
        self.lost = True
        for rpc in list(self.rpcs.values()):
            rpc.on_lost(cause)
        self.rpcs.clear()
