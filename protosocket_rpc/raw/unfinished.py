"""A message that has arrived in part: kept until it is all there, or skipped as it arrives."""

from __future__ import annotations

from typing import Final

# Chunks are joined in groups of so many: tiny ones cost more than their own size.
_CHUNKS: Final = 256


class Unfinished:
    """What of a connection's input waits for more.

    Args:
        start: the bytes of it that are there.
        needed: how many there have to be, before it is worth another look.
        skip: bytes to drop, as they arrive, before anything is looked at again.
    """

    __slots__ = ("_chunks", "_joined", "_needed", "_size", "_skip")

    def __init__(self, start: bytes, needed: int, skip: int) -> None:
        self._chunks = [start]
        self._joined = 0  # so many of the chunks, the first ones, were joined of others
        self._size = len(start)
        self._needed = needed
        self._skip = skip

    def add(self, data: bytes) -> bytes | None:
        """What is to be decoded now that `data` has arrived; None while it is not enough."""
        skip = self._skip
        if skip:
            self._skip = skip - len(data)
            return None if self._skip > 0 else data[skip:]
        chunks = self._chunks
        chunks.append(data)
        self._size += len(data)
        if self._size >= self._needed:
            return b"".join(chunks)
        if len(chunks) - self._joined >= _CHUNKS:
            chunks[self._joined :] = [b"".join(chunks[self._joined :])]
            self._joined += 1
        return None
