"""A large frame that arrives in pieces: its body is put together once, when all of it is here."""

from __future__ import annotations

from typing import Any, Final

from protosocket_rpc.raw.allocator import keep_large_blocks
from protosocket_rpc.raw.connection import LARGE
from protosocket_rpc.raw.varint import decode_varint
from protosocket_rpc.wire.frame import Frame, check_fields, parse_frame

# The fields in front of the body are looked for within so many bytes, and those behind it may
# take as many. A frame that is another is put together as a whole.
_AROUND: Final = 4 * 1024


class LargeFrame:
    """Collects the bytes of one frame, its length prefix not among them.

    Attributes:
        missing: bytes that are still to come.
    """

    __slots__ = ("_length", "_parts", "missing")

    def __init__(self, length: int) -> None:
        keep_large_blocks()
        self._length = length
        # Views of what was received; bytearrays of small pieces.
        self._parts: list[Any] = []
        self.missing = length

    def take(self, data: bytes, start: int) -> int:
        """Take what belongs to the frame; the position in `data` where that ends."""
        size = len(data) - start
        if size > self.missing:
            size = self.missing
        self.missing -= size
        end = start + size
        piece = memoryview(data)[start:end]
        parts = self._parts
        if size >= LARGE and 2 * size >= len(data):
            if len(parts) == 1 and len(parts[0]) < _AROUND:  # the front is to be in one part
                parts[0] += piece[:_AROUND]
                piece = piece[_AROUND:]
            parts.append(piece)
        elif parts and isinstance(parts[-1], bytearray):
            parts[-1] += piece
        else:  # not worth its own object, or to keep all of `data` for
            parts.append(bytearray(piece))
        return end

    def frame(self) -> Frame:
        """The frame, once nothing is missing. Raises as `parse_frame` does."""
        front = bytes(self._parts[0][:_AROUND])
        tag, start, size = _find_body(front)
        behind = self._length - start - size
        if size < LARGE or not 0 <= behind <= _AROUND:
            data = b"".join(self._parts)
            check_fields(data, 0, len(data))
            return parse_frame(data, 0, len(data))
        around = front[:tag] + self._cut(start, behind)
        frame = parse_frame(around, 0, len(around))
        if frame.body is None:  # of two, the last is what counts
            frame.body = b"".join(self._parts)
        return frame

    def _cut(self, start: int, behind: int) -> bytes:
        """Leave the body alone in the parts; what was `behind` it."""
        parts = self._parts
        parts[0] = memoryview(parts[0])[start:]
        rest = b""
        while behind:
            last = parts.pop()
            size = len(last)
            if size > behind:
                rest = bytes(last[size - behind :]) + rest
                parts.append(memoryview(last)[: size - behind])
                break
            rest = bytes(last) + rest
            behind -= size
        return rest


def _find_body(front: bytes) -> tuple[int, int, int]:
    """Where the body's tag and the body are, and its size; 0 if other fields come first."""
    pos = 0
    end = len(front)
    while 0 <= pos < end:
        tag = front[pos]
        if tag == 0x08 or tag == 0x10:  # id, code
            pos = decode_varint(front, pos + 1, end)[1]
        elif tag == 0x1A or tag == 0x22:  # method, body
            size, start = decode_varint(front, pos + 1, end)
            if start < 0:
                break
            if tag == 0x22:
                return pos, start, size
            pos = start + size
        else:
            break
    return 0, 0, 0
