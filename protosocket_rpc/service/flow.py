"""One direction of one RPC: credit, fragments and the order of its messages. Sans-I/O.

::

    producer ── send ──> SendHalf ── frames, while there is credit and room ──> connection
    consumer <── take ── ReceiveHalf <── push ── frames
                              └── credit, as messages are taken ──> connection
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from protosocket_rpc.errors import ProtosocketError
from protosocket_rpc.raw.connection import LARGE
from protosocket_rpc.service.compression import CompressedBody
from protosocket_rpc.service.limits import CREDIT_BEFORE_SETTINGS
from protosocket_rpc.service.rpc import ServiceRpc
from protosocket_rpc.status import RESOURCE_EXHAUSTED
from protosocket_rpc.wire.frame import (
    MORE_FIELD,
    Frame,
    encode_body_frame,
    encode_body_head,
    id_field,
    item_head,
)

if TYPE_CHECKING:
    from protosocket_rpc.service.session import ServiceSession


class MessageRefused(ProtosocketError):
    """A message that cannot be taken: too large, or not compressed as it says.

    Attributes:
        code: the number of the status code to end the RPC with.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class SendHalf:
    """Sends the messages of one RPC, each whole or in fragments, as credit and room allow.

    Args:
        owner: is told by `on_sendable()` when another message may be sent after all.
        credit: bytes of body that may be sent; UNLIMITED if the receiver does not say.
    """

    def __init__(self, session: ServiceSession, owner: ServiceRpc, credit: int) -> None:
        self._session = session
        self._owner = owner
        self._id_field = id_field(owner.id)
        # Of the last message that was no more than a body; the next one is mostly as long.
        self._head = b""
        self._head_size = -1
        self.credit = credit
        self._body: bytes | None = None
        # Credit was taken for it: from then on it waits for its turn alone.
        self._paid = False
        self._sent = 0
        self._before = b""
        self._first = b""
        self._last = b""
        self._dropped = False

    def send_item(self, body: bytes) -> bool:
        """As `send`, of a message without other fields."""
        session = self._session
        size = len(body)
        if self.credit > 0 and size <= session.fragment_size:
            connection = session.sender()
            if connection.writable:
                self.credit -= size or 1
                if size != self._head_size:
                    self._head = item_head(self._id_field, size)
                    self._head_size = size
                connection.write(self._head + body)
                return True
        return self.send(b"", body, b"", b"")

    def send(self, before: bytes, body: bytes, first: bytes, last: bytes) -> bool:
        """Send one message. False asks the producer to wait for `on_sendable` before the next.

        Args:
            before, first: encoded fields of its first frame, in front of and behind the body.
            last: encoded fields of its last frame, behind the body.
        """
        session = self._session
        paid = self.credit > 0
        if paid:
            # An empty message counts as one byte: it takes memory, too.
            self.credit -= len(body) or 1
            connection = session.sender()
            if len(body) <= session.fragment_size and connection.writable:
                connection.write(encode_body_frame(self._owner.id, before, body, first + last))
                return True
        self._body = body
        self._paid = paid
        self._sent = 0
        self._before = before
        self._first = first
        self._last = last
        if paid:
            if session.may_send_whole(len(body)):
                self.pump()
                return True
            session.enlist(self)
        return False

    @property
    def pending(self) -> bool:
        """True while a message has not left completely."""
        return self._body is not None

    @property
    def untouched(self) -> bool:
        """True while nothing has left of a message, nor of the frame that opens the RPC."""
        return self._body is not None and not self._sent and bool(self._before)

    def grant(self, credit: int) -> None:
        """The receiver allows more. A message that waited for it goes on its way."""
        self.credit += credit
        if self.credit > 0 and self._body is not None and not self._paid:
            self._paid = True
            self.credit -= len(self._body) or 1
            self._session.enlist(self)

    def pump(self) -> int:
        """Write the next piece of the message that is on its way: the bytes that it took."""
        body = self._body
        if body is None or self._dropped:
            return 0
        start = self._sent
        session = self._session
        whole = len(body) <= session.whole_size
        stop = len(body) if whole else start + session.fragment_size
        before = b"" if start else self._before
        after = b"" if start else self._first
        if stop >= len(body):
            stop = len(body)
            self._body = None
            after += self._last
        else:
            self._sent = stop
            after += MORE_FIELD
        size = stop - start
        head = encode_body_head(self._owner.id, before, size, len(after))
        # A view: the body is not copied on its way to the transport.
        parts: list[Any] = [head, memoryview(body)[start:stop], after]
        connection = session.sender()
        if size < LARGE:
            connection.write(b"".join(parts))
        else:
            connection.write_parts(parts)
        return size

    def done(self) -> None:
        """Nothing is on its way any more: tell the owner."""
        if not self._dropped:
            self._owner.on_sendable()

    def drop(self) -> None:
        """Send no more, and forget what waits."""
        self._dropped = True
        self._body = None
        self._owner = _NOBODY  # not a cycle any more


_NOBODY: Final = ServiceRpc()


class ReceiveHalf:
    """Puts fragments together, holds messages until they are taken, and returns their credit.

    Args:
        id: the RPC's id.
        max_size: bytes that one message may have.
        window: bytes that may lie here unread before the sender is to stop; 0 if it holds one
            message at the most (the request or the reply of a unary call).
    """

    def __init__(self, session: ServiceSession, id: int, max_size: int, window: int) -> None:
        self._session = session
        self._id = id
        self._max_size = max_size
        self._window = window
        self._half_window = window >> 1
        self._most_unread = max(window, CREDIT_BEFORE_SETTINGS) + max_size
        # What is to be taken next, its last first; and what has arrived since that was made.
        self._turned: list[bytes] = []
        self._arrived: list[bytes] = []
        self._fragments: list[Any] | None = None  # bytes, or a bytearray of small ones
        self._size = 0
        self._compression = 0
        self._unread = 0
        self._to_return = 0
        self._choking = False
        self.ended = False

    def push(self, frame: Frame) -> bytes | None:
        """Take in the body of a frame: the whole message, if that completes one.

        Raises:
            MessageRefused: the message is above the limit, or does not decompress.
        """
        body = frame.body
        if body is None:
            return None
        fragments = self._fragments
        if fragments is None:
            self._size = len(body)
            self._compression = frame.compression
        else:
            self._size += len(body)
        if self._size > self._max_size:
            self._fragments = None
            raise MessageRefused(RESOURCE_EXHAUSTED, self._session.too_large(self._size))
        if frame.more:
            if fragments is None:
                self._fragments = fragments = []
            if len(body) >= LARGE:
                fragments.append(body)
            elif fragments and isinstance(fragments[-1], bytearray):
                fragments[-1] += body  # small ones must not take more than their bytes
            else:
                fragments.append(bytearray(body))
            return None
        if fragments is not None:
            fragments.append(body)
            body = b"".join(fragments)
            self._fragments = None
        if self._compression:
            if not self._window:
                return self._session.decompress(self._compression, body, self._max_size)
            compressed = CompressedBody(body)
            compressed.compression = self._compression
            return compressed
        return body

    @property
    def partial(self) -> bool:
        """True while fragments of a message lie here and its last one does not."""
        return self._fragments is not None

    @property
    def unread(self) -> bool:
        """True while messages lie here."""
        return bool(self._turned or self._arrived)

    def store(self, message: bytes) -> None:
        """Hold a message until `take`."""
        self._arrived.append(message)
        # No sender that minds its credit goes beyond that. For others, the connection is the limit.
        self._unread = unread = self._unread + (len(message) or 1)
        if unread > self._most_unread and not self.ended:
            self._choking = True
            self._session.choke(self)

    def store_plain(self, body: bytes) -> bool:
        """As `push` and `store`, for what is a message in itself. False if it may not be one."""
        if self._fragments is not None or len(body) > self._max_size or not self._window:
            return False
        self.store(body)
        return True

    def take(self) -> bytes | None:
        """The next message, if one is here; its bytes become the sender's credit again.

        Raises:
            MessageRefused: it does not decompress, or not within the limit.
        """
        turned = self._turned
        if not turned:
            if not self._arrived:
                return None
            self._arrived, turned = turned, self._arrived
            self._turned = turned
            turned.reverse()
        message = turned.pop()
        size = len(message) or 1
        self._unread -= size
        self._to_return = to_return = self._to_return + size
        if to_return >= self._half_window and not self.ended:
            self._to_return = 0
            self._session.return_credit(self._id, to_return)
        if self._choking and self._unread <= self._half_window:
            self._choking = False
            self._session.unchoke(self)
        # isinstance() takes a dozen times as long to say no.
        if type(message) is bytes or not isinstance(message, CompressedBody):
            return message
        return self._session.decompress(message.compression, message, self._max_size)

    def drop(self) -> None:
        """Forget what lies here: nobody will take it."""
        self._turned.clear()
        self._arrived.clear()
        self._unread = 0
        self.end()

    def end(self) -> None:
        """No more will come. What lies here may still be taken."""
        self.ended = True
        self._fragments = None
        if self._choking:
            self._choking = False
            self._session.unchoke(self)
