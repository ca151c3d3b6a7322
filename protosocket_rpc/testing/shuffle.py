"""Frames in another order, as far as the protocol knows none between RPCs."""

from __future__ import annotations

from collections import deque
from random import Random

from protosocket_rpc.raw.varint import decode_varint
from protosocket_rpc.wire.frame import parse_frame


class Shuffle:
    """Takes the frames of one direction of a connection apart, and puts them in a random order.

    Frames of the same RPC keep their order. So do, among themselves, those that open RPCs and
    those of the connection itself.

    Args:
        source: says which order.
    """

    def __init__(self, source: Random) -> None:
        self._source = source
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """The next bytes of the connection."""
        self._data += data

    def take(self) -> bytes:
        """All whole frames, in their new order.

        Raises:
            DecodeError: these are no frames.
        """
        data = bytes(self._data)
        lanes: dict[int, deque[tuple[bytes, bool]]] = {}
        fixed: deque[bytes] = deque()
        start = 0
        while True:
            size, pos = decode_varint(data, start, len(data))
            if pos < 0 or pos + size > len(data):
                break
            frame = parse_frame(data, pos, pos + size)
            whole = data[start : pos + size]
            stays = bool(frame.method) or not frame.id
            lanes.setdefault(frame.id, deque()).append((whole, stays))
            if stays:
                fixed.append(whole)
            start = pos + size
        del self._data[:start]
        out: list[bytes] = []
        while lanes:
            ready = [id for id, lane in lanes.items() if not lane[0][1] or lane[0][0] is fixed[0]]
            id = self._source.choice(ready)
            whole, stays = lanes[id].popleft()
            if stays:
                fixed.popleft()
            if not lanes[id]:
                del lanes[id]
            out.append(whole)
        return b"".join(out)

    def rest(self) -> bytes:
        """What has arrived of a frame that is not whole; nothing is kept."""
        data = bytes(self._data)
        self._data.clear()
        return data
