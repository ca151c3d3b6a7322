"""The Frame written by hand against the Frame of the protobuf library."""

from __future__ import annotations

import random
import time
import tracemalloc
from itertools import product
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import DecodeError as ParseError
from wire.frames import assert_same, delimited, encode

from protosocket_rpc.errors import DecodeError, FrameTooLarge
from protosocket_rpc.raw.varint import decode_varint, encode_varint, varint_size
from protosocket_rpc.rpc.message import CANCEL, END, NORMAL
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import (
    MOST_FIELDS,
    OVERSIZED,
    Frame,
    GoAway,
    Settings,
    Status,
    body_field,
    encode_body_frame,
    encode_frame,
    id_field,
    item_head,
    method_field,
    parse_frame,
    timeout_field,
)

NUMBERS = (0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**32, 2**63, 2**64 - 1)


def text(rng: random.Random) -> str:
    return "".join(rng.choices("a/.ä\u20ac\U0001f600\0", k=rng.randrange(12)))


def octets(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 5, 127, 128, 300)))


def random_message(rng: random.Random, frame_pb2: ModuleType) -> Any:
    """A protobuf Frame with any of its fields."""
    some = lambda: rng.random() < 0.4  # noqa: E731  # shorter to read than its uses
    number = lambda: rng.choice(NUMBERS)  # noqa: E731  # as above
    message = frame_pb2.Frame(id=number(), code=rng.randrange(3))
    if some():
        message.method = text(rng)
    if some():
        message.body = octets(rng)
    if some():
        message.timeout_us = number()
    for pairs in (message.metadata, message.trailers):
        while some():
            pairs.add(key=text(rng), value=octets(rng))
    if some():
        message.status.code = rng.choice((0, 1, 16, 127, 128, 2**31 - 1))
        message.status.message = text(rng)
        while some():
            message.status.details.add(type_url=text(rng), value=octets(rng))
    if some():
        message.compression = rng.choice((0, 1, 2, 3, 300))
    if some():
        message.credit = number()
    message.more = some()
    if some():
        settings = message.settings
        settings.max_frame_size = number()
        settings.max_message_size = number()
        settings.initial_credit = number()
        settings.fragments = some()
        settings.credit = some()
        settings.ping = some()
        settings.compression.extend(rng.choices((0, 1, 2, 3, 300), k=rng.randrange(4)))
        settings.max_metadata_size = number()
    if some():
        message.ping.token = number()
    if some():
        message.pong.token = number()
    if some():
        message.go_away.last_id = number()
        message.go_away.code = rng.choice((0, 14))
        message.go_away.reason = text(rng)
    return message


class TestVarint:
    @pytest.mark.parametrize("value", NUMBERS)
    def test_round_trip(self, value: int) -> None:
        data = encode_varint(value)
        assert len(data) == varint_size(value)
        assert decode_varint(b"?" + data + b"?", 1, 1 + len(data)) == (value, 1 + len(data))
        for end in range(len(data)):
            assert decode_varint(data, 0, end) == (0, -1)

    @pytest.mark.parametrize("data", [b"\x80" * 10, b"\xff" * 9 + b"\x02"], ids=bytes.hex)
    def test_more_than_64_bits_are_broken(self, data: bytes) -> None:
        with pytest.raises(DecodeError):
            decode_varint(data, 0, len(data))


@pytest.mark.parametrize("seed", range(300))
def test_what_protobuf_writes_is_read(frame_pb2: ModuleType, seed: int) -> None:
    message = random_message(random.Random(seed), frame_pb2)
    data = message.SerializeToString()
    assert_same(parse_frame(b"??" + data + b"\xff\xff", 2, 2 + len(data)), message)


@pytest.mark.parametrize("seed", range(300))
def test_what_is_written_is_what_protobuf_writes(frame_pb2: ModuleType, seed: int) -> None:
    message = random_message(random.Random(seed), frame_pb2)
    data = message.SerializeToString()
    # Field by field, in the order of their numbers: the same bytes, not just the same meaning.
    assert encode(parse_frame(data, 0, len(data))) == delimited(message)


@pytest.mark.parametrize("before", [b"", method_field("/a.B/C")])
@pytest.mark.parametrize("after", [b"", timeout_field(500)])
@pytest.mark.parametrize("size", [0, 1, 110, 111, 119, 120, 121, 122, 123, 124, 127, 128, 100_000])
@pytest.mark.parametrize(
    "id", [1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**64 - 1]
)
def test_the_frame_with_a_body_is_what_protobuf_writes(
    frame_pb2: ModuleType, before: bytes, after: bytes, size: int, id: int
) -> None:
    message = frame_pb2.Frame(id=id, body=b"b" * size)
    if before:
        message.method = "/a.B/C"
    if after:
        message.timeout_us = 500
    assert encode_body_frame(id, before, b"b" * size, after) == delimited(message)
    if not (before or after):
        assert item_head(id_field(id), size) + b"b" * size == delimited(message)


def test_an_empty_body_is_a_body() -> None:
    assert parse_frame(b"\x08\x01", 0, 2).body is None
    assert parse_frame(b"\x08\x01\x22\x00", 0, 4).body == b""


@pytest.mark.parametrize("code", [3, 127, 128, 2**32 - 1])
def test_a_code_beyond_the_three_is_a_cancel(code: int) -> None:
    data = b"\x08\x01\x10" + encode_varint(code)
    assert parse_frame(data, 0, len(data)).code == CANCEL


@pytest.mark.parametrize(
    "field",
    [
        b"\x80\x01\x05",  # 16, a number
        b"\x82\x01\x02ab",  # 16, bytes
        b"\x81\x01" + b"8" * 8,  # 16, fixed64
        b"\x85\x01" + b"4" * 4,  # 16, fixed32
        b"\xf8\xff\xff\xff\x0f\x00",  # the largest field number
        b"\x0a\x01\x05",  # the id, as bytes
        b"\x20\x07",  # the body, as a number
        b"\x30\x07",  # metadata, as a number
        b"\x32\x02\x08\x07",  # metadata whose key is a number
        b"\x42\x05\x0a\x01x\x10\x05",  # a status whose code is bytes, and its message a number
        b"\x62\x02\x0a\x00",  # settings whose frame size is bytes
    ],
    ids=bytes.hex,
)
def test_what_is_not_known_is_skipped_as_protobuf_does(frame_pb2: ModuleType, field: bytes) -> None:
    data = b"\x08\x07" + field + b"\x22\x01b"
    frame = parse_frame(data, 0, len(data))
    assert (frame.id, frame.body) == (7, b"b")
    assert_same(frame, frame_pb2.Frame.FromString(data))


@pytest.mark.parametrize("size", range(7))
def test_metadata_of_any_bytes_is_read_as_protobuf_does(frame_pb2: ModuleType, size: int) -> None:
    """Both tags, a size, an empty one, and what goes on: in all ways to put so many together."""
    for content in map(bytes, product((0x0A, 0x12, 0x01, 0x00, 0x80), repeat=size)):
        data = bytes((0x32, size)) + content
        try:
            message = frame_pb2.Frame.FromString(data)
        except ParseError:
            message = None
        for after in (b"", b"\x12\x00"):  # what follows does not matter
            if message is None:
                with pytest.raises(DecodeError):
                    parse_frame(data + after, 0, len(data))
            else:
                assert_same(parse_frame(data + after, 0, len(data)), message)


def test_a_size_in_metadata_that_is_longer_than_it_need_be(frame_pb2: ModuleType) -> None:
    pair = b"\x0a\x01k" + b"\x12\x81\x00v" + b"\x12\x7d" + b"w" * 125
    data = b"\x32" + encode_varint(len(pair)) + pair
    frame = parse_frame(data, 0, len(data))
    assert frame.metadata == [("k", b"w" * 125)]
    assert_same(frame, frame_pb2.Frame.FromString(data))


@pytest.mark.parametrize("key", [1, 126, 127, 128, 129])
@pytest.mark.parametrize("value", [0, 1, 126, 127, 128, 129])
def test_metadata_of_any_length_is_read(frame_pb2: ModuleType, key: int, value: int) -> None:
    message = frame_pb2.Frame(id=7)
    message.metadata.add(key="k" * key, value=b"v" * value)
    data = message.SerializeToString()
    assert_same(parse_frame(data, 0, len(data)), message)


def test_numbers_that_are_not_packed_are_read_too(frame_pb2: ModuleType) -> None:
    data = b"\x62\x07\x38\x01\x3a\x01\x02\x38\x03"
    assert_same(parse_frame(data, 0, len(data)), frame_pb2.Frame.FromString(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # ends after a tag
        b"\x08\x80",  # ends in a number
        b"\x22\x05abc",  # a body that goes on
        b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a body of 2**64 - 1 bytes
        b"\x1a\x02\xff\xfe",  # a method that is not UTF-8
        b"\x32\x04\x0a\x02\xff\xfe",  # a metadata key that is not UTF-8
        b"\x42\x04\x12\x02\xff\xfe",  # a status message that is not UTF-8
        b"\x32\x02\x0a\x05",  # a metadata key that goes on
        b"\x42\x01\x08",  # a status that ends after a tag
        b"\x62\x02\x3a\x01",  # settings that end within a list
        b"\x62\x03\x3a\x01\x80",  # a list that ends within a number
        b"\x81\x01123",  # fixed64, cut off
        b"\x0e\x00",  # wire type 6
        b"\x0b\x0c",  # a group
        b"\x00\x05",  # a field without a number
        b"\x32\x02\x00\x05",  # and one in a submessage
        b"\x88\x80\x80\x80\x10\x05",  # a field number of more than 29 bits
        b"\x88\x00\x05",  # the id, with a tag longer than it need be
    ],
    ids=bytes.hex,
)
def test_what_is_no_frame_is_broken(data: bytes) -> None:
    for padding in (b"", b"\x00" * 16, b"\x08" * 16):
        with pytest.raises(DecodeError):
            parse_frame(data + padding, 0, len(data))


def without_end(size: int) -> dict[str, bytes]:
    """Frames of about `size` bytes that are all fields, of the smallest kinds there are."""
    half = size // 2
    inner = encode_varint(2 * half)
    packed = b"\x3a" + encode_varint(size) + b"\x01" * size
    return {
        "ids": b"\x08\x01" * half,
        "bodies": b"\x22\x00" * half,
        "metadata": b"\x32\x00" * half,
        "fields of metadata": (b"\x32\x7e" + b"\x0a\x00" * 63) * (size // 128),
        "details": b"\x42" + inner + b"\x1a\x00" * half,
        "compression": b"\x62" + inner + b"\x38\x01" * half,
        "compression, packed": b"\x62" + encode_varint(len(packed)) + packed,
        "unknown ones": b"\x80\x01\x05" * (size // 3),
    }


@pytest.mark.parametrize("kind", without_end(0))
def test_fields_without_end_are_refused_before_they_cost_anything(kind: str) -> None:
    data = without_end(1_000_000)[kind]
    data = encode_varint(len(data)) + data
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=f"more than {MOST_FIELDS} fields"):
            FrameCodec(10_000_000).decode(data, [])
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
    # A fraction of a second at the most; one that reads them all takes many times as long.
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"\x32\x04\x0a\x02kk" * (MOST_FIELDS // 2), MOST_FIELDS // 2),
        (b"\x42" + encode_varint(3 * (MOST_FIELDS - 1)) + b"\x1a\x01d" * (MOST_FIELDS - 1), None),
    ],
    ids=["metadata", "details"],
)
def test_as_many_fields_as_there_may_be(data: bytes, count: int | None) -> None:
    frames: list[Frame] = []
    FrameCodec(10_000_000).decode(encode_varint(len(data)) + data, frames)
    if count:
        assert frames[0].metadata == [("kk", b"")] * count
    else:
        assert frames[0].status is not None
        assert frames[0].status.details == (b"d",) * (MOST_FIELDS - 1)
    data += b"\x08\x01"
    with pytest.raises(DecodeError, match="fields"):
        FrameCodec(10_000_000).decode(encode_varint(len(data)) + data, [])


def test_metadata_in_many_pieces_costs_what_its_fields_do() -> None:
    count = MOST_FIELDS // 2 - 1
    data = b"\x32\x00\x50\x01" * count + body_field(bytes(4_000_000))
    frames: list[Frame] = []
    started = time.process_time()
    FrameCodec(10_000_000).decode(encode_varint(len(data)) + data, frames)
    assert frames[0].metadata == [("", b"")] * count
    # As above; one that copies what is still to come for each takes half a minute.
    assert time.process_time() - started < 5


def test_a_large_body_may_look_like_fields() -> None:
    body = b"\x08\x01" * 500_000
    frames: list[Frame] = []
    FrameCodec(10_000_000).decode(encode_body_frame(1, method_field("/a/b"), body, b""), frames)
    assert frames[0].body == body


def test_settings_of_any_size_leave_no_memory_behind() -> None:
    padded = b"\x08\x07\xa2\x06" + encode_varint(1_000_000) + bytes(1_000_000)
    tracemalloc.start()
    try:
        for value in range(8):
            data = b"\x62" + encode_varint(len(padded)) + padded[:-1] + bytes((value,))
            settings = parse_frame(data, 0, len(data)).settings
            assert settings is not None
            assert settings.max_frame_size == 7
        del data, settings
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The same bytes with a few of them changed, gone, or new."""
    result = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(result) + 1)
        match rng.randrange(4):
            case 0:
                result[at : at + 1] = rng.randbytes(1)
            case 1:
                result[at : at + 1] = bytes(
                    byte ^ 1 << rng.randrange(8) for byte in result[at:][:1]
                )
            case 2:
                del result[at : at + 1]
            case _:
                result.insert(at, rng.choice(b"\x00\x01\x08\x0b\x0c\x22\x7f\x80\xff"))
    return bytes(result)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_frames_are_judged_as_protobuf_judges_them(
    frame_pb2: ModuleType, seed: int
) -> None:
    rng = random.Random(seed)
    outcomes = {True: 0, False: 0}
    for _ in range(500):
        data = damaged(rng, random_message(rng, frame_pb2).SerializeToString())
        if rng.random() < 0.3:
            data = rng.randbytes(rng.randrange(12))
        message = frame_pb2.Frame()
        try:
            message.ParseFromString(data)
        except ParseError:
            message = None
        try:
            frame = parse_frame(data, 0, len(data))
        except DecodeError as error:
            refusal = str(error)
            outcomes[False] += 1
            # docs/wire.md is stricter than protobuf about these.
            stricter = ("longer than it need be", "wire type", "64 bits", "longer than 10 bytes")
            alike = message is None or any(text in refusal for text in stricter)
        else:
            outcomes[True] += 1
            # Details are not looked into before somebody asks for them.
            alike = message is not None or bool(frame.status and frame.status.details)
        assert alike, data.hex()
    assert outcomes[True] > 50
    assert outcomes[False] > 50


@pytest.mark.parametrize("seed", range(20))
def test_garbage_raises_nothing_but_what_is_documented(frame_pb2: ModuleType, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        data = bytearray(delimited(random_message(rng, frame_pb2)) * 2)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x08))
        codec = FrameCodec(rng.choice((10, 200, 10_000)))
        frames: list[Frame] = []
        try:
            end = codec.decode(bytes(data), frames)
        except (DecodeError, FrameTooLarge):
            continue
        assert end >= 0
        assert end >= len(data) or codec.needed() == 0 or codec.needed() > len(data) - end


class TestCodec:
    def stream(self, frame_pb2: ModuleType) -> tuple[bytes, list[Any]]:
        rng = random.Random(1)
        messages = [random_message(rng, frame_pb2) for _ in range(4)]
        return b"".join(map(delimited, messages)), messages

    def decode_in_pieces(self, codec: FrameCodec, pieces: list[bytes]) -> list[Frame]:
        frames: list[Frame] = []
        data = b""
        skip = 0
        for piece in pieces:
            if skip >= len(piece):
                skip -= len(piece)
                continue
            data += piece[skip:]
            skip = 0
            end = codec.decode(data, frames)
            skip = max(end - len(data), 0)
            data = data[end:]
        assert data == b""
        assert skip == 0
        return frames

    def test_every_split_in_two(self, frame_pb2: ModuleType) -> None:
        data, messages = self.stream(frame_pb2)
        for cut in range(len(data) + 1):
            frames = self.decode_in_pieces(FrameCodec(10_000), [data[:cut], data[cut:]])
            assert len(frames) == len(messages)
            for frame, message in zip(frames, messages, strict=True):
                assert_same(frame, message)

    def test_byte_by_byte(self, frame_pb2: ModuleType) -> None:
        data, messages = self.stream(frame_pb2)
        pieces = [data[i : i + 1] for i in range(len(data))]
        frames = self.decode_in_pieces(FrameCodec(10_000), pieces)
        for frame, message in zip(frames, messages, strict=True):
            assert_same(frame, message)

    def test_needed_is_exact_once_the_length_is_known(self) -> None:
        data = encode_body_frame(1, b"", b"x" * 500, b"")
        codec = FrameCodec(10_000)
        assert codec.decode(data[:1], []) == 0
        assert codec.needed() == 0
        for cut in range(2, len(data)):
            assert codec.decode(data[:cut], []) == 0
            assert codec.needed() == len(data)

    @pytest.mark.parametrize("id", [1, 2**64 - 1])
    @pytest.mark.parametrize("code", [NORMAL, CANCEL, END])
    @pytest.mark.parametrize("size", [101, 130, 5000])
    def test_an_oversized_frame_is_told_and_skipped_at_every_split(
        self, id: int, code: int, size: int
    ) -> None:
        large = encode_frame(id, code, body_field(b"x" * (size - 20)).ljust(size, b"?"))
        small = encode_frame(5, NORMAL, b"")
        data = small + large + small
        for cut in range(min(len(data), 200)):
            codec = FrameCodec(100)
            frames = self.decode_in_pieces(codec, [data[:cut], data[cut:]])
            assert [frame.id for frame in frames] == [5, id, 5]
            assert frames[1].code == (code or OVERSIZED)
            assert frames[1].announced == decode_varint(large, 0, len(large))[0]

    def test_an_oversized_frame_is_not_held(self) -> None:
        codec = FrameCodec(100)
        head = encode_varint(10**9) + b"\x08\x07\x22" + encode_varint(10**9 - 9) + b"x" * 30
        frames: list[Frame] = []
        assert codec.decode(head, frames) == 10**9 + 5  # beyond what there is: a skip
        assert frames[0].id == 7
        assert frames[0].announced == 10**9

    @pytest.mark.parametrize("fields", [b"\x22\x7f", b"\x10\x02", b"\x08\x00"], ids=bytes.hex)
    def test_an_oversized_frame_without_id_ends_the_connection(self, fields: bytes) -> None:
        data = b"\xff\x01" + fields + b"x" * 40
        with pytest.raises(FrameTooLarge, match="255 bytes for the connection itself"):
            FrameCodec(100).decode(data, [])

    def test_a_frame_of_exactly_the_limit_is_accepted(self) -> None:
        data = encode_frame(1, NORMAL, body_field(b"x" * 96))
        assert data[0] == 100
        frames: list[Frame] = []
        FrameCodec(100).decode(data, frames)
        FrameCodec(99).decode(data, frames)
        assert [frame.code for frame in frames] == [NORMAL, OVERSIZED]


def test_repr_is_made_for_logs() -> None:
    frame = Frame()
    frame.id, frame.code, frame.method, frame.body = 7, END, "/a.B/C", b"xyz"
    frame.metadata = [("k", b"v")]
    frame.status = Status()
    frame.status.code = 5
    frame.settings = Settings()
    frame.go_away = GoAway()
    assert repr(frame) == ("<Frame #7 END /a.B/C body=3B metadata=1 status=5 settings go_away>")
