"""Pairs that are kept because they come again: the same bytes, the same errors, not too many."""

from __future__ import annotations

from typing import Any

import pytest

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.metadata import Metadata, metadata_to_wire
from protosocket_rpc.wire import metadata as module
from protosocket_rpc.wire.frame import credit_field, parse_frame, timeout_field
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


def test_no_more_is_kept_than_that() -> None:
    for number in range(3 * MOST_KEPT):
        for _ in range(3):
            field = encode_metadata((("number", str(number)), ("same", "always")))
            metadata = parse_frame(field, 0, len(field)).metadata
            assert metadata == [("number", str(number).encode()), ("same", b"always")]
    kept = [
        module._encoded_pairs,
        module._encoded_wholes,
        module.KNOWN_PAIRS,
        module.KNOWN_WHOLES,
    ]
    assert all(0 < len(each) <= MOST_KEPT for each in kept)


def test_what_is_new_in_each_call_is_not_kept_with_the_others() -> None:
    wholes = dict(module.KNOWN_WHOLES), dict(module._encoded_wholes)
    for number in range(3):
        field = encode_metadata((("new", str(number)), ("same", "always")))
        assert len(parse_frame(field, 0, len(field)).metadata or []) == 2
    assert (module.KNOWN_WHOLES, module._encoded_wholes) == wholes


def test_metadata_in_pieces_leaves_what_is_kept_as_it_is() -> None:
    one = encode_metadata((("one", "1"),))
    two = encode_metadata((("two", "2"),))
    between = timeout_field(1000)
    for _ in range(3):
        assert parse_frame(one, 0, len(one)).metadata == [("one", b"1")]
        for fields in (one + between + two, between + one + credit_field(7) + two):
            metadata = parse_frame(fields, 0, len(fields)).metadata
            assert metadata == [("one", b"1"), ("two", b"2")]
    assert parse_frame(one, 0, len(one)).metadata == [("one", b"1")]


def test_large_pairs_are_not_kept() -> None:
    value = "v" * LARGEST_KEPT
    field = encode_metadata((("large", value),))
    assert parse_frame(field, 0, len(field)).metadata == [("large", value.encode())]
    assert ("large", value) not in module._encoded_pairs
    assert all(len(content) <= LARGEST_KEPT for content in module.KNOWN_PAIRS)
