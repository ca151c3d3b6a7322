"""What a user of the raw layer writes: something that receives messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.raw.codec import Inbound, Outbound

if TYPE_CHECKING:
    from protosocket_rpc.raw.connection import Connection


@mypyc_attr(allow_interpreted_subclasses=True)
class Reactor(Generic[Inbound, Outbound]):
    """Receives what happens on one connection. Override what matters.

    All methods are called by the event loop and must return quickly. An exception that one of
    them raises ends this connection, with the exception as the cause, and no other.
    """

    __slots__ = ()

    def on_open(self, connection: Connection[Inbound, Outbound]) -> None:
        """The connection is up. Keep `connection`: it is the sender."""

    def on_messages(self, messages: list[Inbound]) -> None:
        """Messages arrived, in order: all that one read from the socket held."""
        for message in messages:
            self.on_message(message)

    def on_message(self, message: Inbound) -> None:
        """One message arrived."""

    def on_writable(self) -> None:
        """The peer reads again after `Connection.writable` was False."""

    def backlog(self) -> int:
        """The number of messages that wait here until the connection is writable.

        A server whose peer reads slowly does not read from it while there are many.
        """
        return 0

    def awaits(self) -> bool:
        """True while an answer is due, to this side or from it. See busy polling."""
        return False

    def on_eof(self) -> bool:
        """The peer will send no more. Return True to go on sending to it; not on TLS."""
        return False

    def on_failure(self, error: Exception) -> None:
        """The connection is about to end because of `error`; last words may still be sent.

        Args:
            error: what the peer sent that cannot be decoded, or what a method here raised.
        """

    def on_close(self, cause: Exception | None) -> None:
        """The connection is gone. Called exactly once, last.

        Args:
            cause: None if either side closed in good order, else what went wrong.
        """
