"""Large frames that arrive in pieces: the same comes out as if they had come whole."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from protosocket_rpc.errors import DecodeError
from protosocket_rpc.raw.varint import encode_varint
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import (
    MORE_FIELD,
    Frame,
    body_field,
    credit_field,
    encode_body_frame,
    encode_frame,
    method_field,
    parse_frame,
)
from protosocket_rpc.wire.metadata import metadata_field

MAX = 1 << 20
SMALL = encode_body_frame(3, b"", b"small", b"")
BODY = random.Random(1).randbytes(100_000)
METADATA = [("k", bytes(5000))]

FRAMES = {
    "fragment": encode_body_frame(7, b"", BODY, MORE_FIELD),
    "opening": encode_body_frame(
        2**40, method_field("/a.B/C"), BODY, metadata_field([("k", b"v")])
    ),
    "long method": encode_body_frame(7, method_field("/" + 5000 * "m"), BODY, b""),
    "much behind": encode_body_frame(7, b"", BODY, metadata_field(METADATA)),
    "body later": encode_frame(7, 0, metadata_field(METADATA) + body_field(BODY)),
    "two bodies": encode_frame(7, 0, body_field(BODY) + body_field(b"last")),
    "small body": encode_frame(7, 0, body_field(b"b") + 9 * metadata_field(METADATA)),
    "no body": encode_frame(7, 0, 9 * metadata_field(METADATA) + credit_field(9)),
    "code": encode_frame(7, 2, body_field(BODY)),
}


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def received(codec: FrameCodec, pieces: list[bytes]) -> list[Frame]:
    """As a connection hands them in."""
    messages: list[Frame] = []
    kept = b""
    for piece in pieces:
        data = kept + piece
        kept = data[codec.decode(data, messages) :]
    assert not kept
    return messages


def fields(frame: Frame) -> dict[str, object]:
    return {name: getattr(frame, name) for name in dir(frame) if not name.startswith("_")}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize(
    "sizes",
    [[1 << 20], [70_000], [40_000, 1], [1, 40_000], [3, 33_000], [9, 90_000], [1000], [99_990, 7]],
    ids=str,
)
def test_a_frame_in_pieces_is_the_frame(name: str, sizes: list[int]) -> None:
    data = FRAMES[name]

    prefix = next(n for n in range(1, 5) if data[n - 1] < 0x80)
    whole = parse_frame(data, prefix, len(data))
    codec = FrameCodec(MAX)
    first, frame, last = received(codec, cut(SMALL + data + SMALL, sizes))
    assert fields(frame) == fields(whole)
    assert (first.body, last.body) == (b"small", b"small")
    assert not codec.unfinished


AROUND = {
    "fragment": (b"", MORE_FIELD),
    "opening": (method_field("/a.B/C"), metadata_field([("k", b"v")])),
    "code": (b"\x10\x02", b""),
    "another body": (b"", body_field(b"last")),
}


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("step", [7, 100_000])
def test_a_frame_that_is_read_into_its_own_memory_is_the_frame(name: str, step: int) -> None:
    before, behind = AROUND[name]
    held = []
    for number in range(5):  # memory of the ones before is used again, if it can be
        data = encode_body_frame(7, before, random.Random(number).randbytes(300_000), behind)
        whole = parse_frame(data, 3, len(data))
        codec = FrameCodec(MAX)
        messages: list[Frame] = []
        pos = codec.decode(data[:80_000], messages)
        while (room := codec.room()) is not None:
            size = min(step if pos < 90_000 else 1 << 20, len(room))
            room[:size] = data[pos : pos + size]
            pos += size
            codec.filled(size)
        assert pos == len(data) - len(behind) - 1  # not a byte of the next frame
        assert codec.unfinished
        assert codec.decode(data[pos:] + SMALL[:3], messages) == len(data) - pos
        assert not codec.unfinished
        assert codec.room() is None
        held += [(frame, whole) for frame in messages if number % 2]
    assert len(held) == 2
    for frame, whole in held:
        assert fields(frame) == fields(whole)


def test_a_body_in_its_own_memory_is_not_copied() -> None:
    data = encode_body_frame(1, b"", bytes(900_000), b"")
    messages: list[Frame] = []
    codec = FrameCodec(MAX)
    tracemalloc.start()
    try:
        pos = codec.decode(data[:80_000], messages)
        while (room := codec.room()) is not None:
            codec.filled(len(room))
            pos += len(room)
        codec.decode(data[pos:], messages)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(messages[0].body or b"") == 900_000
    assert peak < 1_300_000


@pytest.mark.parametrize(
    ("length", "arrived"),
    [(MAX, 60_000), (100_000, 70_000), (2 << 20, 1 << 20), (32_000, 31_000)],
    ids=["too little has come", "too little is missing", "too large", "small"],
)
def test_memory_of_its_own_is_for_frames_that_are_worth_it(length: int, arrived: int) -> None:
    codec = FrameCodec(4 * MAX)
    data = encode_body_frame(1, b"", bytes(length), b"")
    codec.decode(data[:arrived], [])
    assert codec.room() is None


@pytest.mark.parametrize("name", ["long method", "much behind", "body later", "small body"])
def test_memory_of_its_own_is_for_bodies_with_little_around_them(name: str) -> None:
    data = FRAMES[name]
    content = data[3:] + metadata_field([("k", bytes(100_000))])
    codec = FrameCodec(MAX)
    codec.decode(encode_varint(len(content)) + content[:80_000], [])
    assert codec.unfinished
    assert codec.room() is None


def test_what_is_missing_is_known() -> None:
    codec = FrameCodec(MAX)
    data = FRAMES["fragment"]
    assert codec.decode(data[:-1], []) == len(data) - 1
    assert codec.unfinished
    messages: list[Frame] = []
    assert codec.decode(data[-1:] + SMALL[:3], messages) == 1
    assert not codec.unfinished
    assert messages[0].body == BODY


@pytest.mark.parametrize(
    "content",
    [
        b"\x22" + encode_varint(200_000) + BODY,  # the body goes beyond the end
        b"\x08" + 60_000 * b"\x80",
        b"\x22" + encode_varint(len(BODY)) + BODY + b"\x28",
        20_000 * (b"\x2a\x00" + b"\x32\x00"),  # too many fields
    ],
    ids=["beyond", "id", "behind", "fields"],
)
def test_a_broken_frame_is_refused(content: bytes) -> None:
    codec = FrameCodec(MAX)
    data = encode_varint(len(content)) + content
    with pytest.raises(DecodeError):
        received(codec, cut(data, [33_000]))


@pytest.mark.parametrize("size", [100, 5000])
def test_pieces_take_no_more_than_their_bytes(size: int) -> None:
    codec = FrameCodec(MAX)
    data = encode_body_frame(1, b"", bytes(500_000), b"")
    pieces = cut(data[:-1], [size])
    codec.decode(data[:1000], [])  # what is made once
    codec = FrameCodec(MAX)
    tracemalloc.start()
    try:
        for piece in pieces:
            codec.decode(piece, [])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert codec.unfinished
    assert held < 700_000
