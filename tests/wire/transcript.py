"""Transcripts of connections, as in docs/wire.md: bytes on the left, their meaning on the right.

::

    C  08                                    8 bytes
       08 01                                 id: 1
       22 04 0a 02 68 69                     body: "\\n\\002hi"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from google.protobuf import text_format

from protosocket_rpc.raw.varint import decode_varint, encode_varint

_PER_LINE = 12
_COLUMN = 5 + 3 * _PER_LINE


@dataclass(frozen=True)
class Sent:
    """One frame of a transcript.

    Attributes:
        side: "C" if the client sent it, "S" if the server did.
        data: its bytes, with the length in front.
        says: what stands to the right of them, without the length and without its layout.
        text: all of it, as it stands there.
    """

    side: str
    data: bytes
    says: str
    text: str


def parse(text: str) -> list[Sent]:
    """The frames of a transcript."""
    frames = []
    for part in re.split(r"(?m)^(?=[CS]  )", text):
        if not part.strip():
            continue
        lines = part.splitlines()
        data = bytes.fromhex("".join(line[3:_COLUMN] for line in lines))
        says = [line[_COLUMN:].strip() for line in lines[1:]]
        frames.append(Sent(part[0], data, " ".join(filter(None, says)), part))
    return frames


def show(frame_pb2: ModuleType, side: str, data: bytes) -> str:
    """How a frame is to stand in a transcript."""
    length, start = decode_varint(data, 0, len(data))
    assert start + length == len(data)
    lines = [(data[:start], f"{length} bytes")]
    for field in _fields(data[start:]):
        lines += _show_field(frame_pb2.Frame, field)
    out = []
    for octets, says in lines:
        chunks = [octets[n : n + _PER_LINE] for n in range(0, len(octets), _PER_LINE)] or [b""]
        for number, chunk in enumerate(chunks):
            line = f"{' ' if out else side}  {chunk.hex(' ')}".ljust(_COLUMN)
            out.append((line + (says if number == 0 else "")).rstrip())
    return "\n".join(out) + "\n"


def _fields(data: bytes) -> list[bytes]:
    """The fields of a message, each with its tag."""
    fields = []
    pos = 0
    while pos < len(data):
        start = pos
        tag, pos = decode_varint(data, pos, len(data))
        value, pos = decode_varint(data, pos, len(data))
        if tag & 7 == 2:
            pos += value
        fields.append(data[start:pos])
    return fields


def _show_field(message_type: Any, field: bytes) -> list[tuple[bytes, str]]:
    """The lines of one field: of a submessage, one for each field of it."""
    lines = text_format.MessageToString(message_type.FromString(field)).splitlines()
    if not lines[0].endswith("{"):
        return [(field, lines[0]), *((b"", line) for line in lines[1:])]
    tag, pos = decode_varint(field, 0, len(field))
    _, pos = decode_varint(field, pos, len(field))
    shown = [(field[:pos], lines[0])]
    for inner in _fields(field[pos:]):
        alone = encode_varint(tag) + encode_varint(len(inner)) + inner
        inside = text_format.MessageToString(message_type.FromString(alone)).splitlines()[1:-1]
        shown += [(inner if number == 0 else b"", line) for number, line in enumerate(inside)]
    return [*shown, (b"", "}")]
