"""Every codec, on bytes alone: what it makes, how it takes them in pieces, what it refuses."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import msgpack
import pytest
from google.protobuf import wrappers_pb2
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from google.protobuf.struct_pb2 import Struct

from protosocket_rpc.errors import DecodeError, FrameTooLarge, ProtocolError
from protosocket_rpc.raw import CodecPair
from protosocket_rpc.raw.codecs import (
    ByteLineCodec,
    LineCodec,
    MessagePackCodec,
    ProtobufCodec,
)


def bytes_message(value: bytes) -> wrappers_pb2.BytesValue:
    return wrappers_pb2.BytesValue(value=value)


# A codec, and messages that it can encode: empty ones, some that need more than one byte of
# length, some that look like framing.
CODECS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "protobuf": (
        lambda: ProtobufCodec(wrappers_pb2.BytesValue),
        [bytes_message(value) for value in (b"", b"x", b"\x80" * 130, b"\x00", b"y" * 300)],
    ),
    "byte lines": (ByteLineCodec, [b"", b"a", b"\xff\x00 b", b"c" * 300, b"", b"\r.", b"end"]),
    "lines": (LineCodec, ["", "a", "ähm \u2028", "c" * 300, "", "end"]),
    "messagepack": (
        MessagePackCodec,
        [None, 1, -1.5, "\xce", b"\xce" * 5, [], {"a": [1, {"b": None}]}, {1: 2}, "x" * 300],
    ),
}


def decode_in_pieces(codec: Any, pieces: list[bytes]) -> list[Any]:
    """What a connection does, as simply as can be."""
    messages: list[Any] = []
    data = b""
    for piece in pieces:
        data += piece
        if len(data) < codec.needed() and data != piece:
            continue
        end = codec.decode(data, messages)
        data = data[end:]
    assert data == b""
    return messages


@pytest.mark.parametrize("name", CODECS)
class TestEveryCodec:
    def test_messages_survive_all_at_once(self, name: str) -> None:
        make, messages = CODECS[name]
        data = b"".join(make().encode(message) for message in messages)
        assert decode_in_pieces(make(), [data]) == messages

    def test_messages_survive_byte_by_byte(self, name: str) -> None:
        make, messages = CODECS[name]
        data = b"".join(make().encode(message) for message in messages)
        assert decode_in_pieces(make(), [data[i : i + 1] for i in range(len(data))]) == messages

    def test_messages_survive_every_split_in_two(self, name: str) -> None:
        make, messages = CODECS[name]
        data = b"".join(make().encode(message) for message in messages)
        for cut in range(len(data) + 1):
            assert decode_in_pieces(make(), [data[:cut], data[cut:]]) == messages

    def test_messages_survive_every_split_in_three(self, name: str) -> None:
        make, messages = CODECS[name]
        data = b"".join(make().encode(message) for message in messages[:4])[:60]
        whole: list[Any] = []
        end = make().decode(data, whole)
        data = data[:end]
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1):
                pieces = [data[:first], data[first:second], data[second:]]
                assert decode_in_pieces(make(), pieces) == whole

    def test_needed_is_never_more_than_the_message(self, name: str) -> None:
        make, messages = CODECS[name]
        for message in messages:
            data = make().encode(message)
            for cut in range(1, len(data)):
                codec = make()
                assert codec.decode(data[:cut], []) == 0
                assert codec.needed() <= len(data)

    def test_messages_before_a_broken_one_are_delivered(self, name: str) -> None:
        make, messages = CODECS[name]
        broken = {
            "protobuf": b"\x02\xff\xff",
            "byte lines": b"x" * 70_000,
            "lines": b"\xff\n",
            "messagepack": b"\xc0",
        }[name]
        received: list[Any] = []
        with pytest.raises(ProtocolError):
            make().decode(make().encode(messages[0]) + broken, received)
        assert received == messages[:1]

    def test_random_bytes_raise_nothing_else(self, name: str) -> None:
        make, messages = CODECS[name]
        rng = random.Random(name)
        good = b"".join(make().encode(message) for message in messages)
        for _ in range(2000):
            data = bytearray(good)
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            start = rng.randrange(len(data))
            try:
                end = make().decode(bytes(data[start:]), [])
            except ProtocolError:
                continue
            assert 0 <= end <= len(data) - start


class TestProtobuf:
    @pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 100_000])
    def test_bytes_are_those_of_protobuf_itself(self, size: int) -> None:
        message = bytes_message(b"z" * size)
        codec = ProtobufCodec(wrappers_pb2.BytesValue)
        data = codec.encode(message)
        file = BytesIO()
        serialize_length_prefixed(message, file)
        assert data == file.getvalue()
        file.seek(0)
        assert parse_length_prefixed(wrappers_pb2.BytesValue, file) == message
        received: list[wrappers_pb2.BytesValue] = []
        assert codec.decode(data, received) == len(data)
        assert received == [message]

    def test_any_message_can_be_encoded(self) -> None:
        struct = Struct()
        struct["a"] = 1.0
        data = ProtobufCodec(wrappers_pb2.BytesValue).encode(struct)
        received: list[Struct] = []
        ProtobufCodec(Struct).decode(data, received)
        assert received == [struct]

    def test_a_message_of_exactly_the_limit_is_accepted(self) -> None:
        message = bytes_message(b"x" * 98)
        assert message.ByteSize() == 100
        data = ProtobufCodec(wrappers_pb2.BytesValue).encode(message)
        received: list[Any] = []
        codec = ProtobufCodec(wrappers_pb2.BytesValue, max_message_size=100)
        codec.decode(data, received)
        assert received == [message]
        codec = ProtobufCodec(wrappers_pb2.BytesValue, max_message_size=99)
        with pytest.raises(FrameTooLarge, match="100 bytes; max_message_size is 99"):
            codec.decode(data, received)

    def test_the_limit_holds_as_soon_as_the_length_is_known(self) -> None:
        with pytest.raises(FrameTooLarge, match="4194305 bytes"):
            ProtobufCodec(wrappers_pb2.BytesValue).decode(b"\x81\x80\x80\x02", [])

    @pytest.mark.parametrize(
        "prefix", [b"\xff" * 10, b"\xff" * 9 + b"\x02", b"\x80" * 11], ids=bytes.hex
    )
    def test_a_prefix_that_can_never_be_a_length_is_broken(self, prefix: bytes) -> None:
        with pytest.raises(DecodeError, match="varint"):
            ProtobufCodec(wrappers_pb2.BytesValue).decode(prefix, [])

    def test_the_longest_prefix_that_may_become_a_length_needs_more(self) -> None:
        codec = ProtobufCodec(wrappers_pb2.BytesValue)
        assert codec.decode(b"\x80" * 9, []) == 0
        assert codec.needed() == 0
        assert codec.decode(b"\x80" * 9 + b"\x00", received := []) == 10
        assert received == [wrappers_pb2.BytesValue()]

    def test_the_error_names_the_message(self) -> None:
        with pytest.raises(DecodeError, match=r"2 bytes are no google\.protobuf\.BytesValue"):
            ProtobufCodec(wrappers_pb2.BytesValue).decode(b"\x02\xff\xff", [])


class TestLines:
    def test_telnet_and_netcat_both_end_a_line(self) -> None:
        received: list[bytes] = []
        assert ByteLineCodec().decode(b"a\r\nb\n\r\n\nc", received) == 8
        assert received == [b"a", b"b", b"", b""]

    def test_a_carriage_return_elsewhere_is_kept(self) -> None:
        received: list[bytes] = []
        ByteLineCodec().decode(b"\ra\rb\r\r\n", received)
        assert received == [b"\ra\rb\r"]

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_line_of_exactly_the_limit_is_accepted(self, whole: bool) -> None:
        end = b"\n" if whole else b""
        received: list[bytes] = []
        ByteLineCodec(max_line_size=5).decode(b"abcd" + end, received)
        assert received == ([b"abcd"] if whole else [])
        with pytest.raises(FrameTooLarge, match="max_line_size, which is 5"):
            ByteLineCodec(max_line_size=5).decode(b"abcde" + end, received)

    def test_no_byte_of_an_unfinished_line_is_looked_at_twice(self) -> None:
        class Watched(bytes):
            looked_at = 0

            def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
                Watched.looked_at += len(self) - start
                return bytes.find(self, sub, start)

        codec = ByteLineCodec()
        for size in range(1, 1000):
            codec.decode(Watched(b"x" * size), [])
        assert Watched.looked_at == 999

    def test_an_end_of_line_within_a_message_is_refused(self) -> None:
        with pytest.raises(ValueError, match="end of line"):
            LineCodec().encode("two\nlines")

    def test_bytes_that_are_not_text_are_broken(self) -> None:
        received: list[str] = []
        with pytest.raises(DecodeError, match="not utf-8"):
            LineCodec().decode(b"good\n\xff\xfe\n", received)
        assert received == ["good"]

    def test_another_encoding(self) -> None:
        codec = LineCodec(encoding="latin-1")
        assert codec.encode("\xff") == b"\xff\n"
        received: list[str] = []
        codec.decode(b"\xff\n", received)
        assert received == ["\xff"]


class TestMessagePack:
    def test_bytes_are_those_of_the_rust_crate(self) -> None:
        # rmp::encode::write_u32 of the length, whatever it is, then the document.
        assert MessagePackCodec().encode([7, "a"]) == bytes.fromhex("ce00000004 9207a161")
        assert MessagePackCodec().encode("x" * 70_000)[:5] == bytes.fromhex("ce00011175")

    @pytest.mark.parametrize("first", [0x00, 0x7F, 0xCC, 0xCD, 0xCF])
    def test_another_marker_than_uint32_is_broken_at_once(self, first: int) -> None:
        with pytest.raises(DecodeError, match=f"begins with {first:#04x}"):
            MessagePackCodec().decode(bytes((first,)), [])

    def test_the_limit_holds_as_soon_as_the_length_is_known(self) -> None:
        codec = MessagePackCodec(max_message_size=10)
        assert codec.decode(bytes.fromhex("ce0000000a"), []) == 0
        assert codec.needed() == 15
        with pytest.raises(FrameTooLarge, match="11 bytes; max_message_size is 10"):
            codec.decode(bytes.fromhex("ce0000000b"), [])
        with pytest.raises(FrameTooLarge, match="4294967295 bytes"):
            MessagePackCodec().decode(bytes.fromhex("ceffffffff"), [])

    @pytest.mark.parametrize(
        "document",
        [
            b"",
            b"\x92\x01",  # a list that ends early
            b"\x01\x02",  # two documents
            b"\xc1",  # never used
            b"\xa1\xff",  # not UTF-8
            b"\x81\x90\x01",  # a list as a key
            b"\xdd\xff\xff\xff\xff",  # a list of 4,294,967,295 items
            b"\x91" * 5000,  # deep
        ],
        ids=lambda document: document[:5].hex() or "empty",
    )
    def test_what_is_no_document_is_broken(self, document: bytes) -> None:
        data = b"\xce" + len(document).to_bytes(4, "big") + document
        with pytest.raises(DecodeError, match="no MessagePack document"):
            MessagePackCodec().decode(data, [])

    def test_what_has_no_form_is_refused(self) -> None:
        with pytest.raises(TypeError):
            MessagePackCodec().encode(object())

    def test_without_msgpack_the_error_says_what_to_install(self) -> None:
        program = (
            "import sys; sys.modules['msgpack'] = None\n"
            "from protosocket_rpc.raw.codecs import MessagePackCodec, LineCodec\n"
            "LineCodec()\n"
            "try: MessagePackCodec()\n"
            "except ImportError as error: print(error)"
        )
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert result.stdout == (
            "MessagePackCodec needs msgpack: pip install 'protosocket-rpc[msgpack]'\n"
        ), result.stderr


def test_a_pair_of_a_decoder_and_an_encoder() -> None:
    codec: CodecPair[bytes, str] = CodecPair(ByteLineCodec(), LineCodec())
    received: list[bytes] = []
    assert codec.encode("a") == b"a\n"
    assert codec.decode(b"a\nb", received) == 2
    assert received == [b"a"]
    assert codec.needed() == 0
    assert not codec.unfinished


def test_a_pair_keeps_what_its_decoder_keeps() -> None:
    class Keeping(ByteLineCodec):
        unfinished = True

    assert CodecPair(Keeping(), LineCodec()).unfinished


def test_msgpack_reads_what_the_codec_writes() -> None:
    unpacker = msgpack.Unpacker()
    unpacker.feed(MessagePackCodec().encode({"a": 1}))
    assert list(unpacker) == [6 - 2, {"a": 1}]
