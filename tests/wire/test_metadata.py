"""Pairs that are kept because they come again: the same bytes, the same errors, not too many."""

from __future__ import annotations

from typing import Any

import pytest

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.metadata import Metadata, metadata_to_wire
from protosocket_rpc.wire import metadata as module
from protosocket_rpc.wire.frame import parse_frame
from protosocket_rpc.wire.metadata import (
    LARGEST_KEPT,
    MOST_KEPT,
    decode_pair,
    encode_metadata,
    metadata_field,
)

GOOD: list[Any] = [
    (),
    (("a", "1"), ("b", "2"), ("a", "1")),
    [("a", b"1"), ("a-bin", b"\x00\xff"), ("empty", "")],
    (["a", "1"],),
    Metadata(("a", "1"), ("b-bin", b"2")),
    iter([("a", "1"), ("of", "an iterator")]),
    (("long", "v" * 200), ("k" * 200, "v"), ("longest", "v" * 20_000)),
]


@pytest.mark.parametrize("metadata", GOOD, ids=lambda metadata: type(metadata).__name__)
def test_what_comes_again_is_encoded_as_at_first(metadata: Any) -> None:
    metadata = metadata if isinstance(metadata, (tuple, list, Metadata)) else list(metadata)
    pairs = metadata_to_wire(metadata)
    for _ in range(3):
        encoded = encode_metadata(metadata)
        assert encoded == metadata_field(pairs)
        assert (parse_frame(encoded, 0, len(encoded)).metadata or []) == pairs
    assert encode_metadata(iter(metadata)) == metadata_field(pairs)


@pytest.mark.parametrize(
    "metadata",
    [
        "ab",
        b"ab",
        {"a": "1"},
        {},
        ("ab", ("a", "1", "2")),
        (("a",),),
        (("a", 1),),
        (("a", bytearray(b"1")),),
        (("a-bin", "1"),),
        ((b"a", "1"),),
        (("A", "1"),),
        (("a", "\n"),),
        (("a", b"\xff"),),
        7,
    ],
    ids=repr,
)
def test_what_is_no_metadata_never_is(metadata: Any) -> None:
    encode_metadata((("a", "1"),))
    with pytest.raises((TypeError, ValueError)) as expected:
        metadata_to_wire(metadata)
    for _ in range(2):
        with pytest.raises(type(expected.value)) as error:
            encode_metadata(metadata)
        assert str(error.value) == str(expected.value)


def test_a_key_that_is_not_utf8_never_is_one() -> None:
    for _ in range(2):
        with pytest.raises(DecodeError, match="a metadata key is not UTF-8"):
            decode_pair(b"\x0a\x01\xff\x12\x01v")


def test_no_more_pairs_are_kept_than_that() -> None:
    for number in range(3 * MOST_KEPT):
        field = encode_metadata((("number", str(number)),))
        assert parse_frame(field, 0, len(field)).metadata == [("number", str(number).encode())]
    assert 0 < len(module._encoded) <= MOST_KEPT
    assert 0 < len(module.KNOWN_PAIRS) <= MOST_KEPT


def test_large_pairs_are_not_kept() -> None:
    value = "v" * LARGEST_KEPT
    field = encode_metadata((("large", value),))
    assert parse_frame(field, 0, len(field)).metadata == [("large", value.encode())]
    assert ("large", value) not in module._encoded
    assert all(len(content) <= LARGEST_KEPT for content in module.KNOWN_PAIRS)
