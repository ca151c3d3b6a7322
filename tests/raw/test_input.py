"""How a connection holds input, fed by hand: no sockets, and no waiting for slow peers."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from support import RawPeer, Recorder, listening, wait_until

from protosocket_rpc.errors import FrameTooLarge
from protosocket_rpc.raw import Connection, Limits
from protosocket_rpc.raw.codecs import ByteLineCodec, MessagePackCodec, ProtobufCodec
from protosocket_rpc.raw.varint import encode_varint
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import OVERSIZED, body_field, encode_frame


class Transport:
    """The end of the line: it takes everything, and keeps nothing."""

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


class Watched:
    """A codec that counts what it is asked to look at."""

    def __init__(self, codec: Any) -> None:
        self._codec = codec
        self.attempts = 0
        self.bytes = 0

    def decode(self, data: bytes, messages: list[Any]) -> int:
        self.attempts += 1
        self.bytes += len(data)
        return self._codec.decode(data, messages)

    def needed(self) -> int:
        return self._codec.needed()

    def encode(self, message: Any) -> bytes:
        return self._codec.encode(message)


def opened(codec: Any, limits: Limits | None = None) -> tuple[Connection[Any, Any], Recorder]:
    reactor = Recorder()
    connection: Connection[Any, Any] = Connection(None, codec, reactor, limits or Limits())
    connection.connection_made(Transport())
    return connection, reactor


CODECS = {
    "lines": (ByteLineCodec, [b"", b"a", b"b" * 300]),
    "protobuf": (
        lambda: ProtobufCodec(BytesValue),
        [BytesValue(value=b"x" * size) for size in (0, 1, 300)],
    ),
    "messagepack": (MessagePackCodec, [None, [1, 2], "x" * 300]),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000])
def test_messages_in_pieces_of_one_size(name: str, size: int) -> None:
    make, messages = CODECS[name]
    data = b"".join(make().encode(message) for message in messages * 3)
    connection, reactor = opened(make())
    for start in range(0, len(data), size):
        connection.data_received(data[start : start + size])
    assert reactor.messages == messages * 3


def test_a_slow_peer_costs_no_attempts_once_the_length_is_known() -> None:
    codec = Watched(ProtobufCodec(BytesValue))
    connection, reactor = opened(codec)
    data = codec.encode(BytesValue(value=b"x" * 1000))
    for i in range(len(data)):
        connection.data_received(data[i : i + 1])
    assert len(reactor.messages) == 1
    assert codec.attempts == 3  # one byte of the length, the other, and the whole


def test_a_large_message_is_looked_at_twice_and_never_copied_again_and_again() -> None:
    codec = Watched(ProtobufCodec(BytesValue, max_message_size=1 << 24))
    connection, reactor = opened(codec)
    data = codec.encode(BytesValue(value=bytes((1 << 24) - 100)))
    piece = 64 * 1024
    for start in range(0, len(data), piece):
        connection.data_received(data[start : start + piece])
    assert len(reactor.messages) == 1
    assert codec.bytes <= len(data) + piece


def test_a_message_in_tiny_pieces_takes_no_more_than_its_size() -> None:
    size = 100_000
    connection, reactor = opened(ProtobufCodec(BytesValue))
    data = ProtobufCodec(BytesValue).encode(BytesValue(value=b"xy" * (size // 2)))
    tracemalloc.start()
    try:
        for start in range(0, len(data) - 2, 2):
            connection.data_received(data[start : start + 2])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < held < 2 * size  # one by one, they would take 28 times as much
    connection.data_received(data[start + 2 :])
    assert len(reactor.messages) == 1


def test_what_is_skipped_is_not_held() -> None:
    size = 1_000_000_000
    connection, reactor = opened(FrameCodec(1000))
    content = b"\x08\x07\x22" + encode_varint(size - 9) + bytes(100_000)
    tracemalloc.start()
    try:
        connection.data_received(encode_varint(size) + content)
        left = size - len(content)
        piece = bytes(1_000_000)
        while left > 0:
            connection.data_received(piece[:left])
            left -= len(piece)
        connection.data_received(encode_frame(9, 0, body_field(b"x")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [(frame.id, frame.code) for frame in reactor.messages] == [(7, OVERSIZED), (9, 0)]
    assert peak < 2_000_000


def test_an_announced_length_takes_no_memory() -> None:
    codec = ProtobufCodec(BytesValue, max_message_size=1 << 30)
    connection, reactor = opened(codec, Limits(max_buffer=1 << 31))
    tracemalloc.start()
    try:
        connection.data_received(encode_varint(1 << 30) + b"x")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10_000
    assert reactor.failures == []


def test_an_announced_length_above_the_limit_ends_the_connection_at_once() -> None:
    connection, reactor = opened(
        ProtobufCodec(BytesValue, max_message_size=1 << 30), Limits(max_buffer=1000)
    )
    connection.data_received(encode_varint(1001))
    assert connection.closing
    (failure,) = reactor.failures
    assert isinstance(failure, FrameTooLarge)


async def test_a_peer_that_says_nothing_costs_nobody_anything() -> None:
    async with listening() as (server, reactors):
        with await RawPeer.connect(server.target), await RawPeer.connect(server.target) as other:
            await wait_until(lambda: len(reactors) == 2)
            await other.send(b"message\n")
            await wait_until(lambda: reactors[1].messages)
            await server.stop()  # does not wait for it
        assert [reactor.causes for reactor in reactors] == [[None], [None]]


async def test_a_peer_that_sends_byte_by_byte_over_a_socket() -> None:
    async with listening() as (server, reactors):
        with (
            await RawPeer.connect(server.target) as slow,
            await RawPeer.connect(server.target) as peer,
        ):
            await wait_until(lambda: len(reactors) == 2 and all(r.events for r in reactors))
            for byte in b"a slow message\n":
                await slow.send(bytes((byte,)))
                await peer.send(b"x\n")
                await wait_until(lambda: any(r.messages for r in reactors))
                for reactor in reactors:
                    if reactor.messages == [b"x"]:
                        reactor.messages.clear()
            await wait_until(lambda: any(r.messages == [b"a slow message"] for r in reactors))
