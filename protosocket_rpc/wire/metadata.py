"""Metadata as it stands in a frame, and what is there again and again.

Callers mostly send what they have sent before: who they are, for whom they ask. Such a pair is
checked and encoded once, and decoded once; and so is a whole of such pairs, which does without
looking at each. Something new in each call, as an id, has its whole not kept.
"""

from __future__ import annotations

from typing import Any, Final

from protosocket_rpc.metadata import Metadata, Pairs, metadata_to_wire
from protosocket_rpc.wire.fields import Fields, content_field, decode_text, optional_field

# How many pairs or wholes are kept, and the bytes of each. What is full is emptied: what is still
# in use is soon there again.
MOST_KEPT: Final = 512
LARGEST_KEPT: Final = 128
LARGEST_WHOLE: Final = 512

_METADATA: Final = b"\x32"
_TRAILERS: Final = b"\x3a"

# The fields of a pair, and those of all pairs of a call, by what the user gave.
_encoded_pairs: Final[dict[Any, bytes]] = {}
_encoded_wholes: Final[dict[Any, bytes]] = {}
# Pairs by the content of their fields, and all pairs of a frame by those fields: not to be
# changed. Typed so that no pair is made anew of a known one.
KNOWN_PAIRS: Final[dict[bytes, Any]] = {}
KNOWN_WHOLES: Final[dict[bytes, Pairs]] = {}


def encode_metadata(metadata: Any) -> bytes:
    """Check what a user gave as metadata, and make it the fields that go with a request.

    Raises:
        TypeError, ValueError: as `metadata_to_wire`.
    """
    if not isinstance(metadata, tuple):
        if not isinstance(metadata, (list, Metadata)):
            return metadata_field(metadata_to_wire(metadata))
        metadata = tuple(metadata)
    try:
        whole = _encoded_wholes.get(metadata)
    except TypeError:  # its pairs are not tuples of text and bytes alone
        return metadata_field(metadata_to_wire(metadata))
    return _encode_whole(metadata) if whole is None else whole


def _encode_whole(metadata: tuple[Any, ...]) -> bytes:
    known = True
    fields: list[bytes] = []
    for pair in metadata:
        field = _encoded_pairs.get(pair)
        if field is None:
            known = False
            field = _encode_pair(pair)
        fields.append(field)
    whole = b"".join(fields)
    if known and len(whole) <= LARGEST_WHOLE:
        if len(_encoded_wholes) >= MOST_KEPT:
            _encoded_wholes.clear()
        _encoded_wholes[metadata] = whole
    return whole


def _encode_pair(pair: Any) -> bytes:
    field = metadata_field(metadata_to_wire((pair,)))
    if len(field) <= LARGEST_KEPT and type(pair) is tuple:
        if len(_encoded_pairs) >= MOST_KEPT:
            _encoded_pairs.clear()
        _encoded_pairs[pair] = field
    return field


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


def keep_whole(content: bytes, pairs: Pairs) -> None:
    """Add to KNOWN_WHOLES: the fields of the metadata of a frame, of which all pairs were known.

    There are not more than LARGEST_WHOLE bytes of them.
    """
    if len(KNOWN_WHOLES) >= MOST_KEPT:
        KNOWN_WHOLES.clear()
    KNOWN_WHOLES[content] = pairs


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
