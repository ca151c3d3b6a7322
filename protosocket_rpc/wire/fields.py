"""Fields as protobuf has them on the wire: tags, values, and what stands between them."""

from __future__ import annotations

from typing import Final

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.raw.varint import decode_varint, encode_varint

_LARGEST_TAG: Final = (1 << 32) - 1


def check_tag(tag: int) -> None:
    if not 8 <= tag <= _LARGEST_TAG:
        raise DecodeError(f"a frame has a field of the number {tag >> 3}, which none can have")


def skip_field(data: bytes, pos: int, end: int, wire_type: int) -> int:
    """The position behind a field that is not known here, and is not length-delimited."""
    if wire_type == 0:
        return decode_varint(data, pos, end)[1]
    if wire_type == 1:
        return pos + 8
    if wire_type == 5:
        return pos + 4
    raise DecodeError(f"a frame has a field of the unknown wire type {wire_type}")


class Fields:
    """The fields of a submessage, one after the other: a cursor for the rare ones."""

    def __init__(self, data: bytes, pos: int, end: int) -> None:
        self._data = data
        self._pos = pos
        self._end = end
        self.tag = 0
        self.value = 0
        self.content = b""

    def next(self) -> bool:
        """Read one field into `tag`, and `value` or `content`. False at the end."""
        while self._pos < self._end:
            data = self._data
            end = self._end
            self.tag, pos = decode_varint(data, self._pos, end)
            if pos < 0:
                raise DecodeError("a field ends in the middle of its tag")
            check_tag(self.tag)
            wire_type = self.tag & 7
            if wire_type == 2:
                size, pos = decode_varint(data, pos, end)
                self._pos = pos + size
                if pos < 0 or self._pos > end:
                    raise DecodeError("a field goes beyond the end of its message")
                self.content = data[pos : self._pos]
                return True
            if wire_type == 0:
                self.value, self._pos = decode_varint(data, pos, end)
                if self._pos < 0:
                    raise DecodeError("a field ends in the middle of its value")
                return True
            self._pos = skip_field(data, pos, end, wire_type)
            if self._pos > end:
                raise DecodeError("a field goes beyond the end of its message")
        return False


def decode_text(content: bytes, what: str) -> str:
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise DecodeError(f"{what} is not UTF-8") from None


def number_field(tag: bytes, value: int) -> bytes:
    return tag + encode_varint(value) if value else b""


def content_field(tag: bytes, content: bytes) -> bytes:
    return tag + encode_varint(len(content)) + content


def optional_field(tag: bytes, content: bytes) -> bytes:
    return content_field(tag, content) if content else b""
