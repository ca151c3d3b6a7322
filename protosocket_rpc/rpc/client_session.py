"""The client's side of RPC over a user's own messages. Sans-I/O.

::

    open ──> in flight ── reply / END / CANCEL / lost ──> outcome, exactly once
                 └── cancel ──> CANCEL to the server; what comes for it later is ignored
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic

from protosocket_rpc.errors import (
    ConnectionClosed,
    ProtocolError,
    ProtosocketError,
    RemoteCancelled,
    RpcFinished,
)
from protosocket_rpc.rpc.message import Envelope, MessageType
from protosocket_rpc.rpc.own_session import OwnMessageSession, Request, Response
from protosocket_rpc.rpc.session import Rpc


class ClientSession(OwnMessageSession[Response, Request], Generic[Request, Response]):
    """The RPCs that this client has in flight on one connection.

    While more than `max_unread` bytes of streams have arrived and were not taken, nothing is
    read from the connection: such a server knows no other way of being stopped.

    Args:
        outbound: makes and stamps requests.
        max_unread: the limit in bytes, of all streams of this connection together.
    """

    def __init__(self, outbound: MessageType[Request], max_unread: int) -> None:
        super().__init__(outbound)
        self._max_unread = max_unread
        self._last_id = 0
        self._unread = 0
        self._paused = False

    @property
    def unread(self) -> int:
        """Bytes of streams that have arrived and were not taken yet."""
        return self._unread

    def open(self, rpc: ClientRpc[Response], request: Request) -> None:
        """Give an RPC its id, and send its request.

        Raises:
            ConnectionClosed: the connection has ended.
            OutputQueueFull: the server does not read, and too much waits for it.
        """
        id = self._last_id + 1
        self._last_id = id
        rpc.id = id
        self.rpcs[id] = rpc
        try:
            self.send(request, id)
        except BaseException:
            del self.rpcs[id]
            raise

    def cancel(self, rpc: ClientRpc[Response]) -> bool:
        """Give an RPC up, and tell the server. False if it had ended already."""
        in_flight = self.rpcs.get(rpc.id) is rpc
        if in_flight:
            del self.rpcs[rpc.id]
            self.send_cancel(rpc.id)
        rpc.drop()
        return in_flight

    def on_messages(self, messages: list[Envelope[Response]]) -> None:
        super().on_messages(messages)
        # Answers to what is in flight come in batches: write requests in step with them.
        self.sender().pace(len(self.rpcs))

    def on_unknown(self, message: Envelope[Response]) -> None:
        """Late messages of an RPC that was given up, or has its reply, are harmless."""

    def on_eof(self) -> bool:
        return self.on_eof_of_server()

    # -- flow control: the connection alone is the limit ------------------------------------

    def hold(self, size: int) -> None:
        """`size` bytes wait to be taken."""
        self._unread += size
        if self._unread > self._max_unread and not self._paused:
            self._paused = True
            self.sender().pause_reading()

    def release(self, size: int) -> None:
        """`size` bytes wait no longer."""
        self._unread -= size
        # Not at every message around the limit.
        if self._paused and self._unread <= self._max_unread >> 1:
            self._paused = False
            self.sender().resume_reading()


class ClientRpc(Rpc[Envelope[Response]], Generic[Response]):
    """One RPC in flight, of either kind. Subclasses keep what it brings."""

    def __init__(self, session: ClientSession[Any, Response]) -> None:
        self.session = session

    @property
    def pending(self) -> bool:
        """True while dropping the RPC would make a difference to the connection."""
        return self.session.rpcs.get(self.id) is self

    def drop(self) -> None:
        """Let go of what has arrived: nobody will take it."""

    def on_outcome(self, error: ProtosocketError | None) -> None:
        """The RPC has ended. Called once at most, and not after `ClientSession.cancel`.

        Args:
            error: None for the end of the stream.
        """
        raise NotImplementedError

    def on_end(self, message: Envelope[Response]) -> None:
        del self.session.rpcs[self.id]
        self.on_outcome(None)

    def on_cancel(self, message: Envelope[Response]) -> None:
        del self.session.rpcs[self.id]
        self.on_outcome(RemoteCancelled("the server cancelled the RPC, or refused it"))

    def on_lost(self, cause: Exception | None) -> None:
        error: ProtosocketError
        if isinstance(cause, ProtocolError):
            error = ProtocolError(f"the server broke the protocol: {cause}")
        elif cause is not None:
            error = ConnectionClosed(f"the connection was lost before the RPC had ended: {cause}")
        else:
            error = ConnectionClosed("the connection was closed before the RPC had ended")
        error.__cause__ = cause
        self.on_outcome(error)


class UnaryRpc(ClientRpc[Response]):
    """One request, one reply.

    Args:
        future: gets the reply or the error; asyncio's, or one that works alike.
    """

    def __init__(self, session: ClientSession[Any, Response], future: Any) -> None:
        self.session = session
        self.future = future

    def on_message(self, message: Envelope[Response]) -> None:
        del self.session.rpcs[self.id]
        if not self.future.done():
            self.future.set_result(message.message)

    def on_outcome(self, error: ProtosocketError | None) -> None:
        if error is None:
            error = RpcFinished("the server ended the RPC without a reply")
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # asked for, so that nobody reports what nobody waits for


class StreamingRpc(ClientRpc[Response]):
    """One request, a stream of replies.

    Attributes:
        ended: no more will come.
        error: how the stream ended; None while it has not, or if it was in good order.
        waiter: a future that is to be told when there is more to know; None if nobody waits.
    """

    def __init__(self, session: ClientSession[Any, Response]) -> None:
        self.streams_replies = True  # the class's would not be seen where Rpc is compiled
        self.session = session
        self.ended = False
        self.error: ProtosocketError | None = None
        self.waiter: Any = None
        self._unread: deque[Envelope[Response]] = deque()

    def on_message(self, message: Envelope[Response]) -> None:
        self._unread.append(message)
        self.session.hold(message.size)
        self._wake()

    def on_outcome(self, error: ProtosocketError | None) -> None:
        self.ended = True
        self.error = error
        self._wake()

    def _wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    @property
    def readable(self) -> bool:
        """True while `take` has something to give."""
        return bool(self._unread)

    def take(self) -> Response:
        """The next message. IndexError if none has arrived."""
        envelope = self._unread.popleft()
        self.session.release(envelope.size)
        return envelope.message

    @property
    def pending(self) -> bool:
        return super().pending or self.readable

    def drop(self) -> None:
        self.ended = True
        unread = self._unread
        self._unread = deque()
        self.session.release(sum(envelope.size for envelope in unread))
