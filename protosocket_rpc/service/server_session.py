"""The server's side of a service-call connection. Sans-I/O.

::

    opening frame ──> accepted ── handler ── reply / END / status ──> ended, exactly once
                          └── CANCEL, deadline, lost ──> handler told ──> ended
    CANCEL, then its opening frame ──> CANCEL
"""

from __future__ import annotations

from typing import Final

from protosocket_rpc.errors import ProtocolError
from protosocket_rpc.metadata import Pairs, metadata_size
from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.rpc.early_cancels import EarlyCancels, on_early_cancel, open_out_of_turn
from protosocket_rpc.rpc.message import CANCEL, END, NORMAL
from protosocket_rpc.service.flow import MessageRefused, ReceiveHalf, SendHalf
from protosocket_rpc.service.limits import UNLIMITED, RpcLimits, too_large
from protosocket_rpc.service.rpc import ServiceRpc
from protosocket_rpc.service.session import ServiceSession
from protosocket_rpc.status import (
    CANCELLED,
    INTERNAL,
    OK,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    UNIMPLEMENTED,
)
from protosocket_rpc.wire.frame import (
    OVERSIZED,
    Frame,
    GoAway,
    Status,
    encode_body_frame,
    encode_frame,
    go_away_field,
    status_field,
)
from protosocket_rpc.wire.metadata import metadata_field, trailers_field

_NONE: Final[list[Frame]] = []


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerSession(ServiceSession):
    """The RPCs of one client's connection.

    Attributes:
        last_id: the greatest id of an RPC that was accepted, or was cancelled before.
        early_cancels: which RPCs were cancelled and are still to be opened; None while ids count
            up, and each is opened before it is cancelled.
        draining: no further RPC is accepted, but for those that `takes_late`.
        tells_ends: `on_rpc_ended` is to be called.
        batch: what arrived along with the message being handled; empty between.
        arrived_at: when that was, if anything has asked for the time since; else 0.0.
    """

    __slots__ = (
        "arrived_at",
        "batch",
        "draining",
        "early_cancels",
        "last_id",
        "tells_ends",
    )

    side = "server"

    def __init__(self, limits: RpcLimits) -> None:
        super().__init__(limits)
        self.last_id = 0
        self.draining = False
        self.early_cancels: EarlyCancels | None = None
        self.tells_ends = False
        self.batch: list[Frame] = _NONE
        self.arrived_at = 0.0

    def accept(self, frame: Frame) -> None:
        """An RPC was opened: make a `ServerRpc` of it, and start it."""
        raise NotImplementedError

    def on_messages(self, messages: list[Frame]) -> None:
        self.batch = messages
        self.arrived_at = 0.0
        super().on_messages(messages)
        self.batch = _NONE

    def on_unknown(self, message: Frame) -> None:
        id = message.id
        if id == 0:
            self.on_control(message)
        elif message.code == NORMAL:
            if not message.method:
                # An RPC that has ended, or never was: nobody is to hang on it.
                self.tell(encode_frame(id, CANCEL, b""))
            elif self.draining and not self.takes_late(id):
                # A client that has heard of it has tried elsewhere already, and ignores this.
                self.answer_error(id, UNAVAILABLE, "the server is going away")
            else:
                out_of_turn = id > self.last_id + 1 or self.early_cancels is not None
                cancelled = out_of_turn and open_out_of_turn(self, id)
                if id > self.last_id:
                    self.last_id = id
                if cancelled:
                    self.tell(encode_frame(id, CANCEL, b""))
                else:
                    self.accept(message)
        elif message.code == OVERSIZED:
            self.on_oversized(message)
        elif message.code == CANCEL:
            on_early_cancel(self, id)

    def takes_late(self, id: int) -> bool:
        """Whether an RPC that is opened once this side goes away is accepted all the same.

        It is if it was counted as taken: a smaller one may have been opened before it.
        """
        return id <= self.last_id

    def on_oversized(self, message: Frame) -> None:
        """A frame that is too large arrived, for an RPC that is not in flight."""
        self.answer_error(message.id, RESOURCE_EXHAUSTED, self.too_large(message.announced))

    def answer_error(self, id: int, code: int, message: str) -> None:
        """End an RPC with a status, whichever kind it is: END follows, for a stream's sake."""
        status = Status()
        status.code = code
        status.message = message
        self.tell(encode_frame(id, NORMAL, status_field(status)) + encode_frame(id, END, b""))

    def on_rpc_ended(self) -> None:
        """An RPC has ended, if `tells_ends`."""
        if self.draining and not self.rpcs:
            self.on_drained()

    def on_drained(self) -> None:
        """The last RPC has ended of a connection that takes no more."""

    def go_away(self, reason: str, code: int = OK) -> None:
        """Accept no further RPC, and say so.

        Args:
            reason: for people.
            code: a status code's number: OK if this was planned.
        """
        if not (self.draining or self.lost or self.connection is None):
            self.draining = True
            self.tells_ends = True
            go_away = GoAway()
            go_away.last_id = self.last_id
            go_away.code = code
            go_away.reason = reason
            self.tell(encode_frame(0, END, go_away_field(go_away)))
            if not self.rpcs:
                self.on_drained()


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerRpc(ServiceRpc):
    """One RPC as its server's side sees it. Subclasses run the handler.

    Attributes:
        opening: the frame that opened it: method, timeout, metadata.
        ended: the client has its terminal answer, or is not there to have one.
    """

    session: ServerSession
    opening: Frame
    streams_requests: bool = False
    send: SendHalf | None = None
    receive: ReceiveHalf | None = None
    ended: bool = False
    # In the table of the session's RPCs.
    _listed: bool = False
    # How to compress replies: a value of Frame.compression.
    compression: int = 0
    skip_compression: bool = False
    # Encoded, until the first frame takes it along.
    _initial_metadata: bytes = b""

    # -- events, for subclasses ------------------------------------------------------------

    def on_request(self, body: bytes) -> None:
        """The one request of an RPC without a request stream has arrived: start the handler."""
        raise NotImplementedError

    def on_readable(self) -> None:
        """`receive` holds another request, or has ended."""

    def on_stopped(self, code: int, message: str) -> None:
        """The RPC has ended without the handler: cancel it.

        Args:
            code, message: why; a status code's number, and a text.
        """
        raise NotImplementedError

    def on_rejected(self, message: str) -> None:
        """The client sent what this RPC cannot take, and it ends for that."""

    # -- opening ---------------------------------------------------------------------------

    def open(self) -> bool:
        """Take in the opening frame. False if the RPC cannot be served, and was answered.

        An RPC with one request is then given it by `on_request`, perhaps before this returns.
        """
        opening = self.opening
        session = self.session
        body = opening.body
        plain = opening.plain
        metadata = None if plain else opening.metadata
        if metadata is not None and opening.metadata_span > session.limits.max_metadata_size:
            size = metadata_size(metadata)
            limit = session.limits.max_metadata_size
            if size > limit:
                self.reject(
                    RESOURCE_EXHAUSTED,
                    too_large("Received metadata", size, limit, "server", "max_metadata_size"),
                )
                return False
        if self.streams_replies:
            peer = session.peer
            if not opening.credit and peer is not None and peer.credit:
                return self._refuse_kind()
            self.send = SendHalf(session, self, opening.credit or UNLIMITED)
        elif not plain and opening.credit:
            return self._refuse_kind()
        if self.streams_requests:
            if body is not None:
                return self._refuse_kind()
            self.receive = ReceiveHalf(
                session,
                self.id,
                session.limits.max_receive_message_size,
                session.limits.stream_window,
            )
        elif body is None:
            return self._refuse_kind()
        elif (plain or not (opening.more or opening.compression)) and len(
            body
        ) <= session.limits.max_receive_message_size:
            # The common case. Most have ended when this returns, and never need the table.
            self.on_request(body)
            if self.ended:
                return False
            self._list()
            return True
        self._list()
        if body is not None:
            self._on_body(opening)
        return not self.ended

    def _list(self) -> None:
        self.session.rpcs[self.id] = self
        self._listed = True

    def _refuse_kind(self) -> bool:
        requests = "stream" if self.streams_requests else "unary"
        replies = "stream" if self.streams_replies else "unary"
        kind = f"{requests}-{replies}"
        self.reject(UNIMPLEMENTED, f"the method is {kind}, and was called as another kind")
        return False

    def _on_body(self, frame: Frame) -> None:
        receive = self.receive
        if receive is None:
            limit = self.session.limits.max_receive_message_size
            receive = self.receive = ReceiveHalf(self.session, self.id, limit, 0)
        try:
            body = receive.push(frame)
        except MessageRefused as error:
            self.reject(error.code, str(error))
            return
        if body is None:
            return
        if self.streams_requests:
            receive.store(body)
            self.on_readable()
        else:
            receive.ended = True
            self.on_request(body)

    # -- what the connection says ----------------------------------------------------------

    def on_message(self, message: Frame) -> None:
        if message.method:
            raise ProtocolError(f"the peer opened RPC {self.id} while it was in flight")
        if message.credit and self.send is not None:
            self.send.grant(message.credit)
        body = message.body
        receive = self.receive
        if body is not None:
            if receive is None or receive.ended:
                self.reject(INTERNAL, "a request arrived after the last one that was due")
            elif message.plain and receive.store_plain(body):
                self.on_readable()
            else:
                self._on_body(message)

    def on_end(self, message: Frame) -> None:
        receive = self.receive
        if receive is not None and not receive.ended:
            if receive.partial:
                self.reject(INTERNAL, "the request stream ended in the middle of a message")
                return
            receive.end()
            if self.streams_requests:
                self.on_readable()

    def on_cancel(self, message: Frame) -> None:
        self.ended = True
        self.on_stopped(CANCELLED, "the client cancelled the call")
        self._end(encode_frame(self.id, CANCEL, b""))

    def on_oversized(self, message: Frame) -> None:
        self.reject(RESOURCE_EXHAUSTED, self.session.too_large(message.announced))

    def on_lost(self, cause: Exception | None) -> None:
        if not self.ended:
            self._end(b"")
            self.on_stopped(CANCELLED, "the connection was lost")

    # -- what the handler's side does ------------------------------------------------------

    def send_initial_pairs(self, pairs: Pairs) -> None:
        """Metadata to go with the first frame; at once, to a peer that can take it alone."""
        self._initial_metadata = metadata_field(pairs)
        if self._initial_metadata and self.session.peer is not None and not self.ended:
            self.session.tell(encode_frame(self.id, NORMAL, self._take_metadata()))

    def _take_metadata(self) -> bytes:
        fields = self._initial_metadata
        self._initial_metadata = b""
        return fields

    def reply(self, body: bytes, trailers: Pairs | None) -> None:
        """The one reply of an RPC without a reply stream; ends it."""
        if self.ended:
            return
        session = self.session
        last = b"" if trailers is None else trailers_field(trailers)
        first = b""
        if self.compression:
            body, first = self._compress(body)
        if self._initial_metadata:
            first = self._take_metadata() + first
        if len(body) > session.fragment_size:
            self.send = SendHalf(session, self, UNLIMITED)
            if self.send.send(b"", body, first, last):
                self._end(b"")
            return  # else it is ended by on_sendable, when all has left
        if first:
            last = first + last
        self._end(encode_body_frame(self.id, b"", body, last))

    def write_message(self, body: bytes) -> bool:
        """Send one message of the reply stream. False: wait for `on_sendable` first."""
        send = self.send
        assert send is not None
        if not (self.compression or self._initial_metadata):
            return send.send_item(body)
        first = self._take_metadata()
        if self.compression:
            body, field = self._compress(body)
            first += field
        return send.send(b"", body, first, b"")

    def _compress(self, body: bytes) -> tuple[bytes, bytes]:
        if self.skip_compression:
            self.skip_compression = False
            return body, b""
        return self.session.compress(self.compression, body)

    def on_sendable(self) -> None:
        if not self.streams_replies:
            self._end(b"")

    def end_stream(self, trailers: Pairs | None) -> None:
        """The reply stream is complete; ends the RPC."""
        if self.ended:
            return
        fields = self._take_metadata()
        if trailers is not None:
            fields += trailers_field(trailers)
        self._end(encode_frame(self.id, END, fields))

    def fail(
        self,
        code: int,
        message: str,
        details: tuple[bytes, ...] = (),
        trailers: Pairs | None = None,
    ) -> None:
        """End the RPC with a status other than OK."""
        if self.ended:
            return
        status = Status()
        status.code = code
        status.message = message
        status.details = details
        last = status_field(status)  # first: if it fails, the metadata is still here to go along
        fields = self._take_metadata()
        if trailers is not None:
            fields += trailers_field(trailers)
        frames = encode_frame(self.id, NORMAL, fields + last)
        if self.streams_replies:
            frames += encode_frame(self.id, END, b"")
        self._end(frames)

    def reject(self, code: int, message: str) -> None:
        """End the RPC for what its client sent."""
        self.on_rejected(message)
        self.stop(code, message)

    def stop(self, code: int, message: str) -> None:
        """End the RPC with a status, over the head of its handler."""
        if not self.ended:
            self.fail(code, message)
            self.on_stopped(code, message)

    def _end(self, frames: bytes) -> None:
        """The RPC has ended, and `frames` are its last."""
        self.ended = True
        session = self.session
        if self._listed:
            session.rpcs.pop(self.id, None)
        if self.send is not None:
            self.send.drop()
            if self.streams_replies:
                self.on_sendable()
        if self.receive is not None:
            self.receive.drop()
            if self.streams_requests:
                self.on_readable()
        if frames:
            session.tell(frames)
        if session.tells_ends:
            session.on_rpc_ended()
