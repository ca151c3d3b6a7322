"""The client's side of a service-call connection. Sans-I/O.

::

    open ──> [waiting] ── reply / END / status / CANCEL / lost ──> finished, exactly once
                 └── cancel ──> CANCEL ──> finished
"""

from __future__ import annotations

from typing import Final

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.metadata import Pairs, metadata_size
from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.rpc.message import CANCEL, END
from protosocket_rpc.service.flow import MessageRefused, ReceiveHalf, SendHalf
from protosocket_rpc.service.limits import CREDIT_BEFORE_SETTINGS, RpcLimits, too_large
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
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import (
    Frame,
    GoAway,
    Settings,
    Status,
    credit_field,
    encode_body_frame,
    encode_frame,
)

_NO_REQUEST_STREAMS: Final = (
    "the server does not take request streams: it answered without sending settings"
)


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSession(ServiceSession):
    """The RPCs that this client has in flight on one connection.

    Attributes:
        draining: the server takes no further RPC on this connection.
    """

    __slots__ = (
        "_last_id",
        "draining",
    )

    side = "client"

    def __init__(self, limits: RpcLimits) -> None:
        super().__init__(limits)
        self._last_id = 0
        self.draining = False

    @property
    def usable(self) -> bool:
        """True while RPCs can be opened."""
        return not (self.lost or self.draining)

    def open(self, rpc: ClientRpc, method: bytes, body: bytes | None, fields: bytes) -> None:
        """Open an RPC: give it an id, and send its first frame.

        Args:
            method: the encoded field of the method.
            body: the request; None if requests are a stream.
            fields: the encoded fields behind the body: timeout, metadata.

        Raises:
            ConnectionClosed: the connection has ended.
            OutputQueueFull: the server does not read, and too much waits for it.
        """
        connection = self.connection
        if connection is None:
            raise ConnectionClosed("the connection is not open yet")
        id = self._last_id + 1
        self._last_id = id
        rpc.id = id
        if rpc.streams_replies:
            window = self.limits.stream_window
            rpc.receive = ReceiveHalf(self, id, self.limits.max_receive_message_size, window)
            fields += credit_field(window)
        if body is None:
            credit = CREDIT_BEFORE_SETTINGS
            if self.peer is not None:
                credit = self.peer.initial_credit
            connection.write(encode_frame(id, 0, method + fields))
            rpc.send = SendHalf(self, rpc, credit)
        elif len(body) <= self.fragment_size:
            connection.write(encode_body_frame(id, method, body, fields))
        elif connection.closing:
            raise ConnectionClosed("the connection is closed")
        else:
            rpc.send = SendHalf(self, rpc, len(body))
            rpc.send.send(method, body, fields, b"")
        rpc.session = self
        self.rpcs[id] = rpc

    def on_messages(self, messages: list[Frame]) -> None:
        super().on_messages(messages)
        # Those that were answered just now are likely to be followed by as many.
        answered = len(messages)
        unanswered = len(self.rpcs)
        if unanswered >= answered:
            # The server has as much to do already: all of them leave in one write.
            self.sender().pace(4 * answered)
        else:
            self.sender().pace(unanswered + answered)
        if self.draining and not self.rpcs:
            self.on_drained()

    def on_unknown(self, message: Frame) -> None:
        # Late frames of RPCs that have ended are harmless.
        if message.id == 0:
            self.on_control(message)

    def on_settings(self, settings: Settings) -> None:
        if self.peer is None:
            for rpc in list(self.rpcs.values()):
                if isinstance(rpc, ClientRpc) and rpc.send is not None and rpc.streams_requests:
                    rpc.send.grant(settings.initial_credit - CREDIT_BEFORE_SETTINGS)
        super().on_settings(settings)

    def on_go_away(self, go_away: GoAway) -> None:
        self.draining = True
        self.on_draining(go_away)
        for rpc in list(self.rpcs.values()):
            if isinstance(rpc, ClientRpc) and (
                rpc.id > go_away.last_id or (rpc.send is not None and rpc.send.untouched)
            ):
                rpc.on_refused(f"the server is going away: {go_away.reason}")
        if not self.rpcs:
            self.on_drained()

    def on_draining(self, go_away: GoAway) -> None:
        """The server takes no further RPC: new ones need another connection."""

    def on_drained(self) -> None:
        """The last RPC has ended on a connection that takes no more."""

    def on_eof(self) -> bool:
        return self.on_eof_of_server()

    def on_close(self, cause: Exception | None) -> None:
        self.lost = True
        for rpc in self._never_left():
            rpc.on_refused(f"the connection was lost: {cause or 'the server closed it'}")
        super().on_close(cause)

    def _never_left(self) -> list[ClientRpc]:
        """The RPCs whose opening frame was still here when the connection was lost."""
        unsent: list[Frame] = []
        if self.connection is not None:
            for data in self.connection.unsent():
                FrameCodec(len(data)).decode(data, unsent)
        ids = {frame.id for frame in unsent if frame.method}
        return [
            rpc
            for rpc in self.rpcs.values()
            if isinstance(rpc, ClientRpc)
            and (rpc.id in ids or (rpc.send is not None and rpc.send.untouched))
        ]


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientRpc(ServiceRpc):
    """One RPC as its caller's side sees it. Subclasses turn its events into an API.

    Attributes:
        initial_metadata_pairs, trailers: as received; None while (or if never) they have arrived.
        finished: the RPC has its outcome.
    """

    streams_requests: bool = False

    initial_metadata_pairs: Pairs | None = None
    trailers: Pairs | None = None

    session: ClientSession | None = None
    send: SendHalf | None = None
    receive: ReceiveHalf | None = None
    finished: bool = False
    # How to compress requests: a value of Frame.compression.
    compression: int = 0

    # -- events, for subclasses ------------------------------------------------------------

    def on_reply(self, body: bytes) -> None:
        """The one reply of an RPC without a reply stream: it has ended well."""
        raise NotImplementedError

    def on_initial_metadata(self) -> None:
        """`initial_metadata_pairs` has arrived before the first message."""

    def on_readable(self) -> None:
        """`receive` holds another message, or has ended."""

    def on_finished(self, code: int, message: str, status: Status | None) -> None:
        """The RPC has ended, other than by `on_reply`.

        Args:
            code, message: how; a status code's number, and a text.
            status: what the server sent of it, with its details; None if it was not the server
                that ended it.
        """
        raise NotImplementedError

    def on_refused(self, reason: str) -> None:
        """The server has never seen the RPC, or said that it did not take it: try elsewhere."""
        self.finish(UNAVAILABLE, reason, None)

    def leave(self) -> None:
        """Forget the connection, as if the RPC had never been opened on it."""
        session = self.session
        if session is not None:
            session.rpcs.pop(self.id, None)
            self.session = None
        if self.send is not None:
            self.send.drop()
            self.send = None
        self.receive = None

    # -- what the caller does --------------------------------------------------------------

    def write_message(self, body: bytes) -> bool:
        """Send one message of the request stream. False: wait for `on_sendable` first."""
        assert self.send is not None
        if self.compression and self.session is not None:
            body, first = self.session.compress(self.compression, body)
            return self.send.send(b"", body, first, b"")
        return self.send.send_item(body)

    def half_close(self) -> None:
        """The request stream is complete: its last message has left."""
        if not self.finished and self.session is not None:
            self.session.tell(encode_frame(self.id, END, b""))

    def abandon(self, code: int, message: str) -> None:
        """End the RPC from this side, and tell the server so."""
        if self.finished:
            return
        self.finish(code, message, None)
        session = self.session
        if session is not None:
            session.tell(encode_frame(self.id, CANCEL, b""))
            if session.draining and not session.rpcs:
                session.on_drained()

    def finish(self, code: int, message: str, status: Status | None) -> None:
        """The RPC has ended: exactly once."""
        if self.finished:
            return
        self._release()
        self.on_finished(code, message, status)

    def _release(self) -> None:
        self.finished = True
        if self.session is not None:
            self.session.rpcs.pop(self.id, None)
        if self.send is not None:
            self.send.drop()
        if self.receive is not None:
            self.receive.end()

    # -- what the connection says ----------------------------------------------------------

    def on_message(self, message: Frame) -> None:
        body = message.body
        if message.plain and body is not None:
            receive = self.receive
            if receive is not None:
                # Of a stream, all but the first.
                if self.initial_metadata_pairs is not None and receive.store_plain(body):
                    self.on_readable()
                    return
            elif self.send is None:
                session = self.session
                assert session is not None
                if len(body) <= session.limits.max_receive_message_size:
                    self.finished = True
                    del session.rpcs[self.id]
                    self.on_reply(body)
                    return
        self._on_message(message)

    def _on_message(self, message: Frame) -> None:
        session = self.session
        assert session is not None
        if (
            message.metadata is not None or message.trailers is not None
        ) and not self._accept_metadata(session, message):
            return
        if message.credit and self.send is not None:
            self.send.grant(message.credit)
        status = message.status
        if status is not None and status.code != OK:
            self.finish(status.code, status.message, status)
        elif self.streams_requests and session.peer is None:
            # Settings come first from a peer that has any.
            self.abandon(UNIMPLEMENTED, _NO_REQUEST_STREAMS)
        elif message.body is not None:
            if self.initial_metadata_pairs is None:
                self.initial_metadata_pairs = []  # it would have come by now
                self.on_initial_metadata()
            self._on_body(session, message)
        elif status is not None and not self.streams_replies:
            self.finish(INTERNAL, "the server answered OK without a reply", None)

    def _accept_metadata(self, session: ClientSession, message: Frame) -> bool:
        """Take in a frame's metadata. False if it is too large: that has ended the RPC."""
        limit = session.limits.max_metadata_size
        for pairs in (message.metadata, message.trailers):
            if pairs is not None and metadata_size(pairs) > limit:
                size = metadata_size(pairs)
                text = too_large("Received metadata", size, limit, "client", "max_metadata_size")
                self.abandon(RESOURCE_EXHAUSTED, text)
                return False
        if message.trailers is not None:
            self.trailers = message.trailers
        if message.metadata is not None and self.initial_metadata_pairs is None:
            self.initial_metadata_pairs = message.metadata
            self.on_initial_metadata()
        return True

    def _on_body(self, session: ClientSession, message: Frame) -> None:
        receive = self.receive
        if receive is None:
            limit = session.limits.max_receive_message_size
            receive = self.receive = ReceiveHalf(session, self.id, limit, 0)
        try:
            body = receive.push(message)
        except MessageRefused as error:
            self.abandon(error.code, str(error))
            return
        if body is None:
            return
        if self.streams_replies:
            receive.store(body)
            self.on_readable()
        else:
            self._release()
            self.on_reply(body)

    def on_end(self, message: Frame) -> None:
        session = self.session
        assert session is not None
        status = message.status
        if not self._accept_metadata(session, message):
            return
        if message.announced:  # it was too large to be taken in: it can only be for its trailers
            limit = session.limits.max_metadata_size
            size = message.announced
            text = too_large("Received metadata", size, limit, "client", "max_metadata_size")
            self.finish(RESOURCE_EXHAUSTED, text, None)
        elif status is not None and status.code != OK:
            self.finish(status.code, status.message, status)
        elif self.streams_requests and session.peer is None:
            self.finish(UNIMPLEMENTED, _NO_REQUEST_STREAMS, None)
        elif not self.streams_replies:
            self.finish(INTERNAL, "the server ended the call without a reply", None)
        elif self.receive is not None and self.receive.partial:
            self.finish(INTERNAL, "the server ended the stream in the middle of a message", None)
        else:
            self.finish(OK, "", None)

    def on_cancel(self, message: Frame) -> None:
        assert self.session is not None
        if self.streams_requests and self.session.peer is None:
            # Such as protosocket-rpc: the second message of the stream was an RPC to be refused.
            self.finish(UNIMPLEMENTED, _NO_REQUEST_STREAMS, None)
        else:
            self.finish(CANCELLED, "the server cancelled the call", None)

    def on_oversized(self, message: Frame) -> None:
        assert self.session is not None
        self.abandon(RESOURCE_EXHAUSTED, self.session.too_large(message.announced))

    def on_lost(self, cause: Exception | None) -> None:
        why = "" if cause is None else f": {cause or type(cause).__name__}"
        lost = ConnectionClosed(f"the connection was lost before the call had ended{why}")
        lost.__cause__ = cause
        self.on_connection_lost(lost)

    def on_connection_lost(self, error: ConnectionClosed) -> None:
        """The connection was lost, with the RPC in flight."""
        self.finish(UNAVAILABLE, str(error), None)
