"""The codec of service-call connections: length-delimited Frames, limits applied first."""

from __future__ import annotations

from typing import Any, Final

from protosocket_rpc.errors import DecodeError, FrameTooLarge
from protosocket_rpc.raw.connection import LARGE
from protosocket_rpc.raw.varint import MAX_VARINT_BYTES, decode_varint
from protosocket_rpc.rpc.message import CANCEL, END
from protosocket_rpc.wire.frame import MOST_FIELDS, OVERSIZED, Frame, check_fields, parse_frame
from protosocket_rpc.wire.large import LargeFrame

# Length prefix, id and code together take at most this many bytes.
_HEAD: Final = MAX_VARINT_BYTES + 2 * (1 + MAX_VARINT_BYTES)
# A frame of so many bytes has not more than MOST_FIELDS fields, of two bytes each at the least.
_FEW: Final = 2 * MOST_FIELDS
# Protobuf's own limit: a longer prefix is no length of a message, but garbage.
_LONGEST: Final = (1 << 31) - 1


class FrameCodec:
    """Decodes Frames. What is sent was encoded by the functions of `wire.frame` already.

    Args:
        max_frame_size: bytes of one serialized Frame. A larger one is skipped as it arrives, and
            reported as a frame with the code OVERSIZED and its id, so that its RPC can be
            answered.
    """

    __slots__ = (
        "_large",
        "_max_frame_size",
        "_needed",
    )

    def __init__(self, max_frame_size: int) -> None:
        self._max_frame_size = max_frame_size
        self._needed = 0
        # The frame that is arriving in pieces, if it is large.
        self._large: LargeFrame | None = None

    def decode(self, data: bytes, messages: list[Frame]) -> int:
        size = len(data)
        limit = self._max_frame_size
        pos = 0 if self._large is None else self._continue(data, messages)
        while pos < size:
            length = data[pos]
            start = pos + 1
            if length >= 0x80:
                length, start = decode_varint(data, pos, size)
                if start < 0:
                    self._needed = 0
                    return pos
            end = start + length
            if length > limit:
                if length > _LONGEST:
                    raise DecodeError(f"no frame can be {length} bytes long")
                if size - pos < _HEAD and size < end:
                    self._needed = _HEAD if end - pos > _HEAD else end - pos
                    return pos
                messages.append(self._oversized(data, start, length))
            elif end > size:
                if length >= LARGE:
                    self._large = LargeFrame(length)
                    return self._large.take(data, start)
                self._needed = end - pos
                return pos
            else:
                if length > _FEW:
                    check_fields(data, start, end)
                messages.append(parse_frame(data, start, end))
            pos = end
        return pos

    def needed(self) -> int:
        return self._needed

    @property
    def unfinished(self) -> bool:
        """True while a large frame has arrived in part: that part is kept here."""
        return self._large is not None

    def encode(self, message: bytes) -> bytes:
        return message

    def room(self) -> Any:
        """Where the next bytes of an unfinished frame may be put, other than by `decode`, or None.

        There is none for the last of them: it is `decode` that gives the frame.
        """
        large = self._large
        return None if large is None else large.room()

    def filled(self, size: int) -> None:
        """So many bytes were put there."""
        large = self._large
        assert large is not None
        large.filled(size)

    def _continue(self, data: bytes, messages: list[Frame]) -> int:
        """Take in more of a large frame; the position in `data` where that ends."""
        large = self._large
        assert large is not None
        end = large.take(data, 0)
        if not large.missing:
            self._large = None
            messages.append(large.frame())
        return end

    def _oversized(self, data: bytes, start: int, length: int) -> Frame:
        """What a frame above the limit says of itself in its first two fields."""
        frame = Frame()
        frame.announced = length
        frame.code = OVERSIZED
        end = min(len(data), start + length)
        if start < end and data[start] == 0x08:
            frame.id, start = decode_varint(data, start + 1, end)
            if start < 0:
                raise DecodeError("the id of a frame is not a varint")
        if frame.id == 0:
            raise FrameTooLarge(
                f"the peer sends a frame of {length} bytes for the connection itself; "
                f"the limit is {self._max_frame_size}"
            )
        if start < end and data[start] == 0x10:
            code = data[start + 1] if start + 1 < end else 0
            if code:
                # Its content does not matter: a cancel or an end is one at any size.
                frame.code = code if code <= END else CANCEL
        return frame
