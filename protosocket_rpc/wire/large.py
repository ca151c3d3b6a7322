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

# Frames of up to 1 MiB, and what is around that, can be read into one buffer. These are used
# again and again: to touch new memory costs more than to copy it. Not more of them are kept.
_BUFFER: Final = (1 << 20) + (32 << 10)
_MOST_SPARE: Final = 2
_spare: Final[list[bytearray]] = []
# A buffer is given to a frame that has filled so much of it: who announces much and sends little
# is to take little memory.
_SHARE: Final = 16
# Less is not worth the system calls.
_LEAST: Final = 64 << 10


class LargeFrame:
    """Collects the bytes of one frame, its length prefix not among them.

    Attributes:
        missing: bytes that are still to come.
    """

    __slots__ = ("_buffer", "_length", "_parts", "missing")

    def __init__(self, length: int) -> None:
        keep_large_blocks()
        self._length = length
        self._buffer: bytearray | None = None
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

    def room(self) -> Any:
        """A view of where all that is missing belongs; None if it is to be given to `take`."""
        start = self._length - self.missing
        buffer = self._buffer
        if buffer is None:
            if self.missing < _LEAST or self._length > _BUFFER or start < _BUFFER // _SHARE:
                return None
            buffer = self._buffer = _spare.pop() if _spare else bytearray(_BUFFER)
            view = memoryview(buffer)
            end = 0
            for part in self._parts:
                view[end : end + len(part)] = part
                end += len(part)
            self._parts = [view[: self._length]]
        return memoryview(buffer)[start : self._length]

    def frame(self) -> Frame:
        """The frame, once nothing is missing. Raises as `parse_frame` does."""
        try:
            return self._joined()
        finally:
            buffer = self._buffer
            self._parts = []
            if buffer is not None and len(_spare) < _MOST_SPARE:
                _spare.append(buffer)

    def _joined(self) -> Frame:
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
