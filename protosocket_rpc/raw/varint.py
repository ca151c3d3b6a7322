"""Protobuf's variable-length integers: 7 bits a byte, least significant first."""

from __future__ import annotations

from typing import Final

from protosocket_rpc.errors import DecodeError

MAX_VARINT_BYTES: Final = 10
_MASK64: Final = (1 << 64) - 1

_ONE_BYTE: Final = [bytes((value,)) for value in range(128)]


def encode_varint(value: int) -> bytes:
    """The varint of a value from 0 to 2**64 - 1."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return b"%c%c" % (value & 0x7F | 0x80, value >> 7)
    if value < 0x200000:
        return b"%c%c%c" % (value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14)
    if value < 0x10000000:
        return b"%c%c%c%c" % (
            value & 0x7F | 0x80,
            value >> 7 & 0x7F | 0x80,
            value >> 14 & 0x7F | 0x80,
            value >> 21,
        )
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_size(value: int) -> int:
    """The number of bytes that `encode_varint` makes of a value."""
    size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


def decode_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Read a varint from ``data[start:end]``: its value, and the position behind it.

    A position of -1 says that the varint goes on beyond `end`.

    Raises:
        DecodeError: no varint of 64 bits begins like this.
    """
    if start + 4 <= end:  # most are no longer: each byte in one step, without a look at the end
        first = data[start]
        if first < 0x80:
            return first, start + 1
        second = data[start + 1]
        if second < 0x80:
            return first + (second << 7) - 0x80, start + 2
        third = data[start + 2]
        if third < 0x80:
            return first + (second << 7) + (third << 14) - 0x4080, start + 3
        fourth = data[start + 3]
        if fourth < 0x80:
            value = first + (second << 7) + (third << 14) + (fourth << 21)
            return value - 0x204080, start + 4
    value = 0
    shift = 0
    pos = start
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MASK64:
                raise DecodeError("a varint is larger than 64 bits")
            return value, pos
        shift += 7
        if shift >= 70:
            raise DecodeError(f"a varint is longer than {MAX_VARINT_BYTES} bytes")
    return 0, -1
