"""A large frame that arrives in pieces: its body is put together once, when all of it is here."""

from __future__ import annotations

import io
from typing import Any, Final

from protosocket_rpc.raw.allocator import keep_large_blocks
from protosocket_rpc.raw.connection import LARGE
from protosocket_rpc.raw.varint import decode_varint
from protosocket_rpc.wire.frame import Frame, check_fields, parse_frame

# The fields in front of the body are looked for within so many bytes, and those behind it may
# take as many. A frame that is another is put together as a whole.
_AROUND: Final = 4 * 1024

# Bodies of up to 1 MiB, in frames with a little more around them, can be read into their own
# memory. It is used again once nobody holds the body: new memory has to be cleared first, and is
# in no cache. Not more than so much of it is kept.
_WHOLE: Final = (1 << 20) + (32 << 10)
_MOST_SPARE: Final = 2
_spare: Final[list[io.BytesIO]] = []
# It is given to a frame of which so much has arrived: who announces much and sends little is to
# take little memory.
_SHARE: Final = 16
# Less is not worth the system calls.
_LEAST: Final = 64 << 10


def _memory_of(size: int) -> io.BytesIO:
    try:
        memory = _spare.pop()
        if memory.seek(0, io.SEEK_END) == size:  # its length
            return memory
    except IndexError:  # there is none, or another thread was faster
        pass
    return io.BytesIO(bytes(size))


class LargeFrame:
    """Collects the bytes of one frame, its length prefix not among them.

    Attributes:
        missing: bytes that are still to come.
    """

    __slots__ = ("_around", "_length", "_memory", "_parts", "_view", "missing")

    def __init__(self, length: int) -> None:
        keep_large_blocks()
        self._length = length
        # Views of what was received; bytearrays of small pieces.
        self._parts: list[Any] = []
        # Or, once it is given memory: the body's, a view of what of it is still to come, and what
        # of the frame is not the body. A BytesIO that nobody has a view of gives away the very
        # bytes that it was written to.
        self._memory: io.BytesIO | None = None
        self._view: Any = None
        self._around = b""
        self.missing = length

    def take(self, data: bytes, start: int) -> int:
        """Take what belongs to the frame; the position in `data` where that ends."""
        size = len(data) - start
        if size > self.missing:
            size = self.missing
        end = start + size
        piece = memoryview(data)[start:end]
        if self._memory is not None:
            self._take_into_memory(piece)
            return end
        self.missing -= size
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

    def _take_into_memory(self, piece: memoryview) -> None:
        view = self._view
        size = min(len(piece), len(view))
        view[:size] = piece[:size]
        self._around += piece[size:]
        self.filled(size)
        self.missing -= len(piece) - size

    def room(self) -> Any:
        """A view of where the body's next bytes belong; None if they are to be given to `take`.

        The last one is: nobody else may have a view of the body when the frame is complete.
        """
        if self._memory is None and not self._find_memory():
            return None
        return self._view[:-1] if len(self._view) > 1 else None

    def filled(self, size: int) -> None:
        """So many bytes were put there."""
        self._view = self._view[size:]
        self.missing -= size

    def _find_memory(self) -> bool:
        """Move the body to where it is to be complete. False if it is not worth it."""
        arrived = self._length - self.missing
        if self.missing < _LEAST or self._length > _WHOLE or arrived < _WHOLE // _SHARE:
            return False
        front = bytes(self._parts[0][:_AROUND])
        tag, start, size = _find_body(front)
        if size < LARGE or not 0 <= self._length - start - size <= _AROUND:
            return False
        self._memory = memory = _memory_of(size)
        self._view = memory.getbuffer()
        self._around = front[:tag]
        parts = self._parts
        self._parts = []
        self.missing += arrived - start  # the body's are counted again
        for number, part in enumerate(parts):
            self._take_into_memory(memoryview(part)[0 if number else start :])
        return True

    def frame(self) -> Frame:
        """The frame, once nothing is missing. Raises as `parse_frame` does."""
        memory = self._memory
        if memory is None:
            return self._joined()
        self._view = None
        frame = parse_frame(self._around, 0, len(self._around))
        if frame.body is None:  # of two, the last is what counts
            frame.body = memory.getvalue()
        if len(_spare) < _MOST_SPARE:
            _spare.append(memory)
        return frame

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
