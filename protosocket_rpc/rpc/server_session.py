"""The server's side of RPC over a user's own messages. Sans-I/O.

::

    NORMAL ──> accepted ── handler ── reply / items, END / CANCEL ──> ended, exactly once
                  └── CANCEL, id used twice, lost, stop ──> CANCEL, handler told ──> ended
    CANCEL, then NORMAL ──> CANCEL
"""

from __future__ import annotations

from typing import Any, Generic, Protocol

from protosocket_rpc.rpc.early_cancels import EarlyCancels, on_early_cancel, open_out_of_turn
from protosocket_rpc.rpc.message import CANCEL, NORMAL, Envelope, MessageType
from protosocket_rpc.rpc.own_session import OwnMessageSession, Request, Response
from protosocket_rpc.rpc.session import Rpc


class Handler(Protocol):
    """What runs for an RPC: a task."""

    def cancel(self) -> Any: ...


class ServerSession(OwnMessageSession[Request, Response], Generic[Request, Response]):
    """The RPCs of one client's connection. Subclasses run the handlers.

    Args:
        outbound: makes and stamps responses.
        max_concurrent_rpcs: those in flight at a time; what comes beyond it is refused.

    Attributes:
        draining: no further RPC is accepted.
    """

    def __init__(self, outbound: MessageType[Response], max_concurrent_rpcs: int) -> None:
        super().__init__(outbound)
        self._max_concurrent_rpcs = max_concurrent_rpcs
        self.draining = False
        self.last_id = 0
        self.early_cancels: EarlyCancels | None = None

    def start(self, rpc: ServerRpc[Request, Response], request: Request) -> Handler | None:
        """Run the handler of an RPC.

        Returns:
            What runs it; None if it has ended already.
        """
        raise NotImplementedError

    def warn(self, text: str, *args: object) -> None:
        """Something happened that whoever runs the server should know. As in `logging`."""

    def on_unknown(self, message: Envelope[Request]) -> None:
        id = message.id
        if message.code != NORMAL:
            if message.code == CANCEL:
                on_early_cancel(self, id)
            return  # or it is late, for an RPC that has had its answer
        out_of_turn = id > self.last_id + 1 or self.early_cancels is not None
        cancelled = out_of_turn and open_out_of_turn(self, id)
        if id > self.last_id:
            self.last_id = id
        if cancelled or self.draining:
            self.send_cancel(id)
        elif len(self.rpcs) >= self._max_concurrent_rpcs:
            limit = self._max_concurrent_rpcs
            self.warn("RPC %d is refused: max_concurrent_rpcs is %d", id, limit)
            self.send_cancel(id)
        else:
            rpc = ServerRpc(self, id)
            self.rpcs[id] = rpc
            rpc.handler = self.start(rpc, message.message)

    def cancel_all(self) -> None:
        """End every RPC that is in flight with CANCEL, and tell its handler."""
        for rpc in list(self.rpcs.values()):
            assert isinstance(rpc, ServerRpc)
            rpc.cancel()


class ServerRpc(Rpc[Envelope[Request]], Generic[Request, Response]):
    """One RPC that was accepted.

    Attributes:
        handler: what runs for it.
        ended: the client has its terminal answer, or is not there to have one.
    """

    def __init__(self, session: ServerSession[Request, Response], id: int) -> None:
        self.session = session
        self.id = id
        self.handler: Handler | None = None
        self.ended = False

    # -- what the handler's side does ------------------------------------------------------

    def reply(self, response: Response) -> None:
        """Answer with the one response; ends the RPC. Raises as `Connection.send` does."""
        if not self.ended:
            self.session.send(response, self.id)
            self._end()

    def send(self, response: Response) -> None:
        """Send one response of a stream. Raises as `Connection.send` does."""
        if not self.ended:
            self.session.send(response, self.id)

    def finish(self) -> None:
        """The stream of responses is complete; ends the RPC. Raises as `Connection.send` does."""
        if not self.ended:
            session = self.session
            session.sender().send(session.outbound.ended(self.id))
            self._end()

    def fail(self) -> None:
        """Answer with CANCEL, which is all that can be said of a failure; ends the RPC."""
        if not self.ended:
            self._end()
            self.session.send_cancel(self.id)

    def cancel(self) -> None:
        """End the RPC with CANCEL, over the head of its handler."""
        if not self.ended:
            self._end()
            self._tell_handler()
            self.session.send_cancel(self.id)

    def _end(self) -> None:
        self.ended = True
        del self.session.rpcs[self.id]

    def _tell_handler(self) -> None:
        handler = self.handler
        if handler is not None:
            self.handler = None
            handler.cancel()

    # -- what the client says --------------------------------------------------------------

    def on_message(self, message: Envelope[Request]) -> None:
        # Either of the two would be taken for the other's answer: the id is answered once.
        self.session.warn("RPC %d is cancelled: its id was used again while in flight", self.id)
        self.cancel()

    def on_end(self, message: Envelope[Request]) -> None:
        """Nothing: a request is one message, so its end says nothing new."""

    def on_cancel(self, message: Envelope[Request]) -> None:
        self.cancel()

    def on_lost(self, cause: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self._tell_handler()
