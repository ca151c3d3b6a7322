"""Metadata as it stands in a frame, and the pairs that are there again and again.

Callers mostly send what they have sent before: who they are, for whom they ask. Such a pair is
checked and encoded once, and decoded once.
"""

from __future__ import annotations

from typing import Any, Final

from protosocket_rpc.metadata import Metadata, Pairs, metadata_to_wire
from protosocket_rpc.wire.fields import Fields, content_field, decode_text, optional_field

# How many pairs are kept, and the bytes of each. What is full is emptied: what is still in use
# is soon there again.
MOST_KEPT: Final = 512
LARGEST_KEPT: Final = 128

_METADATA: Final = b"\x32"
_TRAILERS: Final = b"\x3a"

# The field of a pair, by the pair as the user gave it.
_encoded: Final[dict[Any, bytes]] = {}
# Pairs, by the content of their fields. Typed so that none is made anew of a known one.
KNOWN_PAIRS: Final[dict[bytes, Any]] = {}


def encode_metadata(metadata: Any) -> bytes:
    """Check what a user gave as metadata, and make it the fields that go with a request.

    Raises:
        TypeError, ValueError: as `metadata_to_wire`.
    """
    if not isinstance(metadata, (tuple, list, Metadata)):
        return metadata_field(metadata_to_wire(metadata))
    fields: list[bytes] = []
    for pair in metadata:
        try:
            field = _encoded.get(pair)
        except TypeError:  # not of text or bytes alone, so it is no pair
            field = None
        if field is None:
            field = metadata_field(metadata_to_wire((pair,)))
            if len(field) <= LARGEST_KEPT and isinstance(pair, tuple):
                if len(_encoded) >= MOST_KEPT:
                    _encoded.clear()
                _encoded[pair] = field
        fields.append(field)
    return b"".join(fields)


def metadata_field(pairs: Pairs) -> bytes:
    return b"".join([content_field(_METADATA, _pair(key, value)) for key, value in pairs])


def trailers_field(pairs: Pairs) -> bytes:
    return b"".join([content_field(_TRAILERS, _pair(key, value)) for key, value in pairs])


def _pair(key: str, value: bytes) -> bytes:
    return optional_field(b"\x0a", key.encode()) + optional_field(b"\x12", value)


def decode_pair(content: bytes) -> Any:
    """The pair that is the content of a field, and is none of KNOWN_PAIRS until now.

    Raises:
        DecodeError: it is none.
    """
    pair = _parse_pair(content)
    if len(content) <= LARGEST_KEPT:
        if len(KNOWN_PAIRS) >= MOST_KEPT:
            KNOWN_PAIRS.clear()
        KNOWN_PAIRS[content] = pair
    return pair


def _parse_pair(content: bytes) -> tuple[str, bytes]:
    end = len(content)
    if 4 < end < 0x80 and content[0] == 0x0A:
        # Nearly all are a short key, and a short value behind it that ends the pair.
        stop = 2 + content[1]
        if stop + 2 <= end and content[stop] == 0x12 and stop + 2 + content[stop + 1] == end:
            return decode_text(content[2:stop], "a metadata key"), content[stop + 2 :]
    key = ""
    value = b""
    fields = Fields(content, 0, end)
    while fields.next():
        if fields.tag == 0x0A:
            key = decode_text(fields.content, "a metadata key")
        elif fields.tag == 0x12:
            value = fields.content
    return key, value
