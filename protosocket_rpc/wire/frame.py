"""The Frame of proto/protosocket/rpc/v1/frame.proto: its fields, its bytes, and back.

Written by hand because it runs for every message, and so that no generated message code, with
its check of the protobuf library's version, is part of the runtime. docs/wire.md specifies each
field; the tests hold these functions against the protobuf library byte by byte.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.metadata import Pairs
from protosocket_rpc.raw.varint import decode_varint, encode_varint
from protosocket_rpc.rpc.message import CANCEL, END, NORMAL, Tagged
from protosocket_rpc.wire.fields import (
    Fields,
    check_tag,
    content_field,
    decode_text,
    number_field,
    optional_field,
    skip_field,
)
from protosocket_rpc.wire.metadata import (
    KNOWN_PAIRS,
    KNOWN_WHOLES,
    LARGEST_WHOLE,
    decode_pair,
    keep_whole,
)

# Fields of one frame, with those of the messages in it. Reading more would keep others waiting.
MOST_FIELDS: Final = 1 << 15

# Never on the wire: stands for a frame that was too large to take, and was skipped.
OVERSIZED: Final = 3


class Settings:
    """What one side of a connection accepts and understands. Sizes in bytes."""

    max_frame_size: int = 0
    max_message_size: int = 0
    initial_credit: int = 0
    fragments: bool = False
    credit: bool = False
    ping: bool = False
    compression: tuple[int, ...] = ()
    max_metadata_size: int = 0


class GoAway:
    """The sender takes no further RPC; those with a greater id than `last_id` were not taken."""

    last_id: int = 0
    code: int = 0
    reason: str = ""


class Status:
    """How an RPC ended: a code, a text, and serialized ``google.protobuf.Any`` details."""

    code: int = 0
    message: str = ""
    details: tuple[bytes, ...] = ()


class Frame(Tagged):
    """One frame, as received. A field that was not sent has its default.

    Attributes:
        plain: there are no fields but id, code, method and body.
    """

    timeout_us: int = 0
    metadata: Pairs | None = None
    # Bytes that the metadata takes: its keys and values are no more than that.
    metadata_span: int = 0
    trailers: Pairs | None = None
    status: Status | None = None
    compression: int = 0
    credit: int = 0
    more: bool = False
    settings: Settings | None = None
    ping: int | None = None
    pong: int | None = None
    go_away: GoAway | None = None
    # The length that an OVERSIZED frame was announced with.
    announced: int = 0

    def __init__(self) -> None:
        # What is read of every frame is set in every frame: a default costs more to look up.
        self.id = 0
        self.code = NORMAL
        self.method: str = ""
        self.body: bytes | None = None
        self.plain = True

    def __repr__(self) -> str:
        name = ("NORMAL", "CANCEL", "END", "OVERSIZED")[self.code]
        parts = [f"#{self.id} {name}"]
        if self.method:
            parts.append(self.method)
        if self.body is not None:
            parts.append(f"body={len(self.body)}B")
        for field in ("timeout_us", "compression", "credit", "more", "announced"):
            value = getattr(self, field)
            if value:
                parts.append(f"{field}={value}")
        if self.metadata:
            parts.append(f"metadata={len(self.metadata)}")
        if self.trailers:
            parts.append(f"trailers={len(self.trailers)}")
        if self.status is not None:
            parts.append(f"status={self.status.code}")
        rare = ("settings", "ping", "pong", "go_away")
        parts.extend(field for field in rare if getattr(self, field) is not None)
        return f"<Frame {' '.join(parts)}>"


# -- bytes -> frame ------------------------------------------------------------------------


def parse_frame(data: bytes, pos: int, end: int) -> Frame:
    """Read the frame that is ``data[pos:end]``, without its length prefix.

    Raises:
        DecodeError: this is no Frame.
    """
    frame = Frame()
    try:
        while pos < end:
            tag = data[pos]
            pos += 1
            if tag == 0x08:  # id
                value = data[pos]
                pos += 1
                if value >= 0x80:  # most have 3 or 4 bytes: not worth a call
                    second = data[pos]
                    if second < 0x80:
                        value += (second << 7) - 0x80
                        pos += 1
                    elif data[pos + 1] < 0x80:
                        value += (second << 7) + (data[pos + 1] << 14) - 0x4080
                        pos += 2
                    elif data[pos + 2] < 0x80:
                        value += (second << 7) + (data[pos + 1] << 14) - 0x204080
                        value += data[pos + 2] << 21
                        pos += 3
                    else:
                        value, pos = decode_varint(data, pos - 1, end)
                        if pos < 0:
                            break
                frame.id = value
            elif tag == 0x22:  # body
                size = data[pos]
                pos += 1
                if size >= 0x80:
                    size, pos = decode_varint(data, pos - 1, end)
                    if pos < 0:
                        break
                stop = pos + size
                if stop > end:
                    raise DecodeError("the body of a frame goes beyond its end")
                frame.body = data[pos:stop]
                pos = stop
            elif tag == 0x1A:  # method
                size = data[pos]
                pos += 1
                if size >= 0x80:
                    size, pos = decode_varint(data, pos - 1, end)
                    if pos < 0:
                        break
                stop = pos + size
                if stop > end:
                    raise DecodeError("the method of a frame goes beyond its end")
                frame.method = data[pos:stop].decode()
                pos = stop
            elif tag == 0x10:  # code
                value, pos = decode_varint(data, pos, end)
                # As in protosocket-rpc: any other value is a cancel.
                frame.code = value if value <= END else CANCEL
                if pos < 0:
                    break
            elif tag == 0x28 or tag == 0x32:
                pos = _parse_call_fields(frame, data, pos - 1, end)
                if pos < 0:
                    break
            else:
                pos = _parse_rare_field(frame, tag, data, pos, end)
                if pos < 0:
                    break
    except IndexError:
        pos = -1
    except UnicodeDecodeError:
        raise DecodeError("the method of a frame is not UTF-8") from None
    if pos != end:
        raise DecodeError("a frame ends in the middle of a field")
    return frame


def _parse_call_fields(frame: Frame, data: bytes, pos: int, end: int) -> int:
    """Read the timeout and the metadata, which stand side by side, from the first tag on."""
    frame.plain = False
    if data[pos] == 0x28:
        frame.timeout_us, pos = decode_varint(data, pos + 1, end)
        if pos < 0 or pos == end or data[pos] != 0x32:
            return pos
    known = end - pos <= LARGEST_WHOLE and frame.metadata is None
    fields = data[pos:end] if known else b""
    pairs = KNOWN_WHOLES.get(fields)
    if pairs is not None:
        frame.metadata = pairs
        frame.metadata_span = end - pos
        return end
    first = pos
    pairs = []
    while pos < end and data[pos] == 0x32:
        size = data[pos + 1]
        start = pos + 2
        if size >= 0x80:
            size, start = decode_varint(data, pos + 1, end)
        pos = start + size
        if start < 0 or pos > end:
            raise DecodeError("a field of a frame goes beyond its end")
        content = data[start:pos]
        pair = KNOWN_PAIRS.get(content)
        if pair is None:
            known = False
            pair = decode_pair(content)
        pairs.append(pair)
    if frame.metadata is None:
        frame.metadata = pairs
        if known and pos == end:
            keep_whole(fields, pairs)
    else:  # in pieces, with something else between them, from other libraries alone
        frame.metadata.extend(pairs)
    frame.metadata_span += pos - first
    return pos


def _parse_rare_field(frame: Frame, tag: int, data: bytes, pos: int, end: int) -> int:
    """Read a field that few frames have; its tag's first byte was read."""
    frame.plain = False
    if tag >= 0x80:
        tag, pos = decode_varint(data, pos - 1, end)
        if pos < 0:
            return pos
        if tag < 0x80:
            raise DecodeError("a field of a frame has a tag that is longer than it need be")
    check_tag(tag)
    wire_type = tag & 7
    if wire_type == 0:
        value, pos = decode_varint(data, pos, end)
        if tag == 0x50:
            frame.credit = value
        elif tag == 0x58:
            frame.more = value != 0
        elif tag == 0x48:
            frame.compression = value
        return pos
    if wire_type != 2:
        return skip_field(data, pos, end, wire_type)
    size, pos = decode_varint(data, pos, end)
    stop = pos + size
    if pos < 0 or stop > end:
        raise DecodeError("a field of a frame goes beyond its end")
    if tag == 0x3A:
        if frame.trailers is None:
            frame.trailers = []
        content = data[pos:stop]
        frame.trailers.append(KNOWN_PAIRS.get(content) or decode_pair(content))
    elif tag == 0x42:
        frame.status = _parse_status(data, pos, stop)
    elif tag == 0x62:
        content = data[pos:stop]
        parse = _known_settings if len(content) <= _KNOWN_SIZE else _parse_settings
        frame.settings = parse(content)
    elif tag == 0x6A:
        frame.ping = _parse_token(data, pos, stop)
    elif tag == 0x72:
        frame.pong = _parse_token(data, pos, stop)
    elif tag == 0x7A:
        frame.go_away = _parse_go_away(data, pos, stop)
    return stop


def _parse_status(data: bytes, pos: int, end: int) -> Status:
    status = Status()
    details: list[bytes] = []
    fields = Fields(data, pos, end)
    while fields.next():
        if fields.tag == 0x08:
            status.code = fields.value & 0xFFFFFFFF
        elif fields.tag == 0x12:
            status.message = decode_text(fields.content, "a status message")
        elif fields.tag == 0x1A:
            details.append(fields.content)
    status.details = tuple(details)
    return status


def _parse_settings(content: bytes) -> Settings:
    settings = Settings()
    compression: list[int] = []
    fields = Fields(content, 0, len(content))
    while fields.next():
        tag = fields.tag
        if tag == 0x08:
            settings.max_frame_size = fields.value
        elif tag == 0x10:
            settings.max_message_size = fields.value
        elif tag == 0x18:
            settings.initial_credit = fields.value
        elif tag == 0x20:
            settings.fragments = fields.value != 0
        elif tag == 0x28:
            settings.credit = fields.value != 0
        elif tag == 0x30:
            settings.ping = fields.value != 0
        elif tag == 0x3A:
            _parse_packed(fields.content, compression)
        elif tag == 0x38:  # not packed
            compression.append(fields.value)
        elif tag == 0x40:
            settings.max_metadata_size = fields.value
    settings.compression = tuple(compression)
    return settings


# The clients of a server mostly say the same. What is found here is not to be changed.
_known_settings = lru_cache(maxsize=16)(_parse_settings)
# What is longer says what is not known here, and is not worth the memory.
_KNOWN_SIZE: Final = 64


def _parse_packed(content: bytes, values: list[int]) -> None:
    pos = 0
    while pos < len(content):
        value, pos = decode_varint(content, pos, len(content))
        if pos < 0:
            raise DecodeError("a list of numbers ends in the middle of one")
        if len(values) == MOST_FIELDS:
            raise _too_many_fields()
        values.append(value)


def _parse_token(data: bytes, pos: int, end: int) -> int:
    token = 0
    fields = Fields(data, pos, end)
    while fields.next():
        if fields.tag == 0x08:
            token = fields.value
    return token


def _parse_go_away(data: bytes, pos: int, end: int) -> GoAway:
    go_away = GoAway()
    fields = Fields(data, pos, end)
    while fields.next():
        if fields.tag == 0x08:
            go_away.last_id = fields.value
        elif fields.tag == 0x10:
            go_away.code = fields.value & 0xFFFFFFFF
        elif fields.tag == 0x1A:
            go_away.reason = decode_text(fields.content, "the reason to go away")
    return go_away


def check_fields(data: bytes, pos: int, end: int) -> None:
    """Look at the number of fields of a large frame, before `parse_frame` spends time on them.

    Raises:
        DecodeError: there are more than MOST_FIELDS.
    """
    _count_fields(data, pos, end, MOST_FIELDS, True)


def _count_fields(data: bytes, pos: int, end: int, left: int, deep: bool) -> int:
    """How many fields there may still be behind these. What is broken is not found here."""
    while 0 <= pos < end:
        if not left:
            raise _too_many_fields()
        left -= 1
        tag, pos = decode_varint(data, pos, end)
        wire_type = tag & 7
        if pos < 0 or wire_type in (3, 4, 6, 7):
            break
        if wire_type == 2:
            size, pos = decode_varint(data, pos, end)
            if pos < 0:
                break
            if deep and tag not in (0x1A, 0x22) and size <= end - pos:
                left = _count_fields(data, pos, pos + size, left, False)
            pos += size
        else:
            pos = skip_field(data, pos, end, wire_type)
    return left


def _too_many_fields() -> DecodeError:
    return DecodeError(f"a frame has more than {MOST_FIELDS} fields")


# -- frame -> bytes ------------------------------------------------------------------------

_ONE_BYTE: Final = [bytes((value,)) for value in range(128)]
# Bytes of a varint that goes on, by their seven bits; and those behind the tag of the id.
_MORE_BYTES: Final = [bytes((value | 0x80,)) for value in range(128)]
_LONG_ID: Final = [bytes((0x08, value | 0x80)) for value in range(128)]
_BODY_OF_SIZE: Final = [bytes((0x22, size)) for size in range(128)]


def encode_body_frame(id: int, before: bytes, body: bytes, after: bytes) -> bytes:
    """A NORMAL frame with a body, ready to be sent.

    Args:
        before: the encoded fields between code and body: the method.
        after: the encoded fields behind the body.
    """
    size = len(body)
    length = 7 + len(before) + size + len(after)
    # Nearly all are small and have an id of 3 or 4 bytes: one step in place of many. Compiled,
    # a format of nothing but %b is that: join() would have a tuple made first.
    if length < 0x80 and 0x4000 <= id < 0x10000000:
        if id < 0x200000:
            length -= 1
            rest = _ONE_BYTE[id >> 14]
        else:
            rest = _MORE_BYTES[id >> 14 & 0x7F] + _ONE_BYTE[id >> 21]
        return b"%b%b%b%b%b%b%b%b" % (
            _ONE_BYTE[length],
            _LONG_ID[id & 0x7F],
            _MORE_BYTES[id >> 7 & 0x7F],
            rest,
            before,
            _BODY_OF_SIZE[size],
            body,
            after,
        )
    return b"".join((encode_body_head(id, before, size, len(after)), body, after))


def encode_body_head(id: int, before: bytes, size: int, after: int) -> bytes:
    """What comes before the body in a frame with a body of `size` and `after` bytes behind it."""
    if size < 0x80:
        head = b"\x08" + encode_varint(id) + before + _BODY_OF_SIZE[size]
    else:
        head = b"\x08" + encode_varint(id) + before + b"\x22" + encode_varint(size)
    return encode_varint(len(head) + size + after) + head


def item_head(id_field: bytes, size: int) -> bytes:
    """What comes before a body of `size` in a frame that has no more than the body and the id."""
    head = id_field + b"\x22" + encode_varint(size)
    return encode_varint(len(head) + size) + head


def encode_frame(id: int, code: int, fields: bytes) -> bytes:
    """A frame of these encoded fields, which stand in the order of their numbers."""
    head = b"\x08" + encode_varint(id) if id else b""
    if code:
        head += b"\x10" + encode_varint(code)
    return encode_varint(len(head) + len(fields)) + head + fields


def id_field(id: int) -> bytes:
    return b"\x08" + encode_varint(id)


def method_field(method: str) -> bytes:
    return content_field(b"\x1a", method.encode())


def body_field(body: bytes) -> bytes:
    return content_field(b"\x22", body)


def timeout_field(microseconds: int) -> bytes:
    field = _timeouts.get(microseconds)
    if field is None:
        field = b"\x28" + encode_varint(microseconds)
        if len(_timeouts) >= _MOST_TIMEOUTS:
            _timeouts.clear()
        _timeouts[microseconds] = field
    return field


# The fields of timeouts: a program has few of them, in most calls.
_timeouts: Final[dict[int, bytes]] = {}
_MOST_TIMEOUTS: Final = 256


def status_field(status: Status) -> bytes:
    message = status.message.encode("utf-8", "replace")  # whatever it is, the code is to arrive
    content = number_field(b"\x08", status.code) + optional_field(b"\x12", message)
    for detail in status.details:
        content += content_field(b"\x1a", detail)
    return content_field(b"\x42", content)


def compression_field(compression: int) -> bytes:
    return number_field(b"\x48", compression)


def credit_field(credit: int) -> bytes:
    return number_field(b"\x50", credit)


MORE_FIELD: Final = b"\x58\x01"


def settings_field(settings: Settings) -> bytes:
    content = (
        number_field(b"\x08", settings.max_frame_size)
        + number_field(b"\x10", settings.max_message_size)
        + number_field(b"\x18", settings.initial_credit)
        + number_field(b"\x20", 1 if settings.fragments else 0)
        + number_field(b"\x28", 1 if settings.credit else 0)
        + number_field(b"\x30", 1 if settings.ping else 0)
        + optional_field(b"\x3a", b"".join([encode_varint(c) for c in settings.compression]))
        + number_field(b"\x40", settings.max_metadata_size)
    )
    return content_field(b"\x62", content)


def ping_field(token: int) -> bytes:
    return content_field(b"\x6a", number_field(b"\x08", token))


def pong_field(token: int) -> bytes:
    return content_field(b"\x72", number_field(b"\x08", token))


def go_away_field(go_away: GoAway) -> bytes:
    content = (
        number_field(b"\x08", go_away.last_id)
        + number_field(b"\x10", go_away.code)
        + optional_field(b"\x1a", go_away.reason.encode())
    )
    return content_field(b"\x7a", content)
