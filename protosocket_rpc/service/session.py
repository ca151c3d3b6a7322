"""What both sides of a service-call connection do: settings, pings, credit, fair sending.

Sans-I/O: frames in by `on_messages`, bytes out by ``connection.write``.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Final

from protosocket_rpc.errors import ConnectionClosed, OutputQueueFull, ProtocolError
from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.rpc.message import END, NORMAL
from protosocket_rpc.rpc.session import Session
from protosocket_rpc.service.compression import (
    SUPPORTED,
    DecompressedTooLarge,
    DecompressionError,
    compress,
    decompress,
)
from protosocket_rpc.service.flow import MessageRefused, ReceiveHalf, SendHalf
from protosocket_rpc.service.limits import UNLIMITED, RpcLimits, too_large
from protosocket_rpc.status import INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED
from protosocket_rpc.wire.frame import (
    Frame,
    GoAway,
    Settings,
    compression_field,
    credit_field,
    encode_frame,
    ping_field,
    pong_field,
    settings_field,
)

# Large enough to cost little per byte, small enough for other messages to pass in between.
FRAGMENT: Final = 256 * 1024
# A body up to this size leaves in one piece all the same when it is its turn: 1 MiB and what is
# around it. Several at once would take turns, and all of them would be complete at the end only.
WHOLE: Final = 1024 * 1024 + 16 * 1024
SMALLEST_FRAGMENT: Final = 4 * 1024
# Fragments that leave in one turn of the loop, before others have theirs.
BURST: Final = FRAGMENT


@mypyc_attr(allow_interpreted_subclasses=True)
class ServiceSession(Session[Frame, bytes]):
    """The state of one connection that is not about one RPC.

    Attributes:
        side: "client" or "server".
        limits: this side's own.
        peer: the peer's settings; None while (or if never) they have arrived.
        fragment_size, whole_size: bodies above `whole_size` are sent in fragments of
            `fragment_size`; both are UNLIMITED while the peer has not said that it understands
            them.
    """

    __slots__ = (
        "_asked_at",
        "_choking",
        "_heard",
        "_quiet_since",
        "_sending",
        "fragment_size",
        "limits",
        "peer",
        "whole_size",
    )

    side: str = ""

    def __init__(self, limits: RpcLimits) -> None:
        super().__init__()
        self.limits = limits
        self.peer: Settings | None = None
        self.fragment_size = UNLIMITED
        self.whole_size = UNLIMITED
        # Made when needed: most connections are idle most of the time, and there may be many.
        self._sending: deque[SendHalf] | None = None
        self._choking: set[ReceiveHalf] | None = None
        # When bytes were last seen to have arrived, and when a sign of life was asked for since.
        self._quiet_since = 0.0
        self._asked_at = 0.0
        self._heard = False

    def on_open(self, connection: Connection[Frame, bytes]) -> None:
        super().on_open(connection)
        connection.write(encode_frame(0, END, settings_field(self._own_settings())))

    def _own_settings(self) -> Settings:
        limits = self.limits
        settings = Settings()
        settings.max_frame_size = limits.max_frame_size
        settings.max_message_size = limits.max_receive_message_size
        settings.initial_credit = limits.stream_window
        settings.fragments = True
        settings.credit = True
        settings.ping = True
        settings.compression = SUPPORTED
        settings.max_metadata_size = limits.max_metadata_size
        return settings

    def tell(self, data: bytes) -> None:
        """Send what the peer cannot do without: if it cannot be sent, the connection ends."""
        connection = self.connection
        if connection is None:
            return
        try:
            connection.write(data)
        except OutputQueueFull as error:
            connection.abort(error)
        except ConnectionClosed:
            pass  # the peer is past needing it

    # -- the connection itself -------------------------------------------------------------

    def on_control(self, frame: Frame) -> None:
        """A frame of the connection itself arrived."""
        if frame.code == NORMAL:
            raise ProtocolError("the peer sent a frame for an RPC without an id")
        if frame.settings is not None:
            self.on_settings(frame.settings)
        if frame.ping is not None:
            self.tell(encode_frame(0, END, pong_field(frame.ping)))
        if frame.pong is not None:
            self.on_pong(frame.pong)
        if frame.go_away is not None:
            self.on_go_away(frame.go_away)

    def on_settings(self, settings: Settings) -> None:
        """The peer said what it accepts and understands."""
        self.peer = settings
        if settings.fragments:
            # Room for the other fields of the first frame. Not less than is worth a frame.
            most = max(settings.max_frame_size >> 1, SMALLEST_FRAGMENT)
            if not settings.max_frame_size:
                most = WHOLE
            self.whole_size = min(WHOLE, most)
            self.fragment_size = min(FRAGMENT, most)

    def on_pong(self, token: int) -> None:
        """The peer answered a ping: that it was heard of is what matters."""

    def on_go_away(self, go_away: GoAway) -> None:
        """The peer takes no further RPC."""

    # -- keepalive -------------------------------------------------------------------------

    @property
    def heard(self) -> bool:
        """True if the peer ever sent anything."""
        connection = self.connection
        return self._heard or (connection is not None and connection.heard)

    def keep_alive(self, now: float, interval: float, timeout: float) -> bool:
        """Ask a peer that is silent for a sign of life. To be called now and then.

        Args:
            now, interval, timeout: in seconds.

        Returns:
            False if it was asked, and has given none within `timeout`.
        """
        connection = self.connection
        if connection is None or connection.closing:
            return True
        if connection.heard:
            self._heard = True
        if connection.heard or self._choking or not self._quiet_since:
            connection.heard = False
            self._quiet_since = now
            self._asked_at = 0.0
        elif self._asked_at:
            return now - self._asked_at < timeout
        elif now - self._quiet_since >= interval and self.peer is not None and self.peer.ping:
            self._asked_at = now
            with contextlib.suppress(OutputQueueFull):  # then it does not read: no sign of life
                connection.write(encode_frame(0, END, ping_field(1)))
        return True

    # -- sending, in turns -----------------------------------------------------------------

    def may_send_whole(self, size: int) -> bool:
        """True if a body of `size` bytes may leave at once: nobody waits for a turn.

        A side that answers later than it reads would hold more and more of what it reads.
        """
        return size <= self.whole_size and not self._sending and self.sender().writable

    def enlist(self, half: SendHalf) -> None:
        """Let `half` send when it is its turn, and tell it when it has."""
        if self._sending is None:
            self._sending = deque()
        self._sending.append(half)
        self.sender().request_writable()

    def on_writable(self) -> None:
        connection = self.sender()
        sending = self._sending
        budget = BURST
        while sending and budget > 0 and connection.writable:
            half = sending.popleft()
            budget -= half.pump()
            if half.pending:
                sending.append(half)
            else:
                half.done()
        if sending:
            connection.request_writable()

    def backlog(self) -> int:
        return 0 if self._sending is None else len(self._sending)

    # -- receiving, no more than is read ---------------------------------------------------

    def return_credit(self, id: int, credit: int) -> None:
        """Tell the peer that `credit` more bytes of this RPC's stream may come."""
        if self.peer is not None and self.peer.credit:
            self.tell(encode_frame(id, NORMAL, credit_field(credit)))

    def choke(self, half: ReceiveHalf) -> None:
        """Read nothing from the connection until `half` has been read."""
        if not self._choking:
            self._choking = set()
            self.sender().pause_reading()
        assert self._choking is not None
        self._choking.add(half)

    def unchoke(self, half: ReceiveHalf) -> None:
        """Undo `choke`."""
        if self._choking is not None:
            self._choking.discard(half)
            if not self._choking and not self.lost:
                self.sender().resume_reading()

    # -- messages and their limits ---------------------------------------------------------

    def too_large(self, size: int) -> str:
        """What a status says of a message of `size` bytes that arrived here."""
        limit = self.limits.max_receive_message_size
        return too_large("Received message", size, limit, self.side, "max_receive_message_size")

    def compress(self, compression: int, body: bytes) -> tuple[bytes, bytes]:
        """The body to send, and the encoded field that says how it is compressed, if it is.

        It is not towards a peer that has not said that it understands, or if it would not help.
        """
        peer = self.peer
        if peer is not None and compression in peer.compression:
            compressed = compress(compression, body)
            if len(compressed) < len(body):
                return compressed, compression_field(compression)
        return body, b""

    def decompress(self, compression: int, body: bytes, max_size: int) -> bytes:
        """The message that `body` holds in compressed form.

        Raises:
            MessageRefused: it holds none, or one above the limit.
        """
        try:
            return decompress(compression, body, max_size)
        except DecompressedTooLarge:
            text = too_large(
                "Decompressed message",
                max_size + 1,
                max_size,
                self.side,
                "max_receive_message_size",
            )
            raise MessageRefused(RESOURCE_EXHAUSTED, text) from None
        except DecompressionError as error:
            code = UNIMPLEMENTED if error.unsupported else INTERNAL
            raise MessageRefused(code, str(error)) from None
