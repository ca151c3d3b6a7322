"""Compression: per channel, server, call and message; announced first; bombs stopped in time."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.service import Stub, serving
from service.sansio import F, Server, peer_settings

import protosocket_rpc as ps
from protosocket_rpc.service import compression as module
from protosocket_rpc.service.compression import (
    SUPPORTED,
    DecompressedTooLarge,
    DecompressionError,
    compress,
    decompress,
    wire_compression,
)
from protosocket_rpc.service.limits import RpcLimits

ALGORITHMS = [ps.Compression.Gzip, ps.Compression.Deflate, ps.Compression.Zstd]
zstd: Any = module._find_zstd()
TEXT = b"the same again and again " * 4000


@pytest.fixture
def bytes_seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The algorithm and the size of every body that arrives compressed."""
    seen: list[tuple[int, int]] = []

    def watch(algorithm: int, body: bytes, max_size: int) -> bytes:
        seen.append((algorithm, len(body)))
        return decompress(algorithm, body, max_size)

    monkeypatch.setattr("protosocket_rpc.service.session.decompress", watch)
    return seen


@asynccontextmanager
async def stub(
    server_options: Any = None, channel_options: Any = None, **handlers: Any
) -> AsyncIterator[Stub]:
    async with (
        serving(options=server_options, **handlers) as server,
        ps.insecure_channel(server.target, **(channel_options or {})) as channel,
    ):
        made = Stub(channel)
        await made.unary(b"")  # each side knows what the other understands
        yield made


async def stream(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


# -- the algorithms ------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SUPPORTED)
@pytest.mark.parametrize("body", [b"", b"x", TEXT, bytes(range(256)) * 3])
def test_round_trip(algorithm: int, body: bytes) -> None:
    assert decompress(algorithm, compress(algorithm, body), len(body)) == body


@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_limit_is_exact(algorithm: int) -> None:
    compressed = compress(algorithm, TEXT)
    assert decompress(algorithm, compressed, len(TEXT)) == TEXT
    with pytest.raises(DecompressedTooLarge):
        decompress(algorithm, compressed, len(TEXT) - 1)


@pytest.mark.parametrize("algorithm", SUPPORTED)
@pytest.mark.parametrize("damage", ["cut", "more", "empty", "nonsense"])
def test_damage_is_an_error(algorithm: int, damage: str) -> None:
    compressed = compress(algorithm, TEXT)
    bodies = {
        "cut": compressed[:-1],
        "more": compressed + b"x",
        "empty": b"",
        "nonsense": b"nothing that was ever compressed",
    }
    with pytest.raises(DecompressionError):
        decompress(algorithm, bodies[damage], 1 << 20)


@pytest.mark.parametrize("algorithm", SUPPORTED)
def test_bomb_is_stopped_while_it_is_being_decompressed(algorithm: int) -> None:
    size = 256 * 1024 * 1024
    if algorithm == 3:
        bomb = compress(algorithm, bytes(size))
    else:
        compressor = zlib.compressobj(9, zlib.DEFLATED, 31 if algorithm == 1 else 15)
        chunk = bytes(1024 * 1024)
        bomb = b"".join([compressor.compress(chunk) for _ in range(256)]) + compressor.flush()
    assert len(bomb) < size // 500
    tracemalloc.start()
    with pytest.raises(DecompressedTooLarge):
        decompress(algorithm, bomb, 1024 * 1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def test_zstd_is_refused_by_the_size_that_it_says_it_has() -> None:
    """Before its window is allocated, which may be as large."""
    options = {zstd.CompressionParameter.window_log: 24}
    body = zstd.compress(bytes(32 * 1024 * 1024), options=options)
    with pytest.raises(DecompressedTooLarge):
        decompress(3, body, 1024 * 1024)


def test_zstd_may_not_ask_for_any_amount_of_memory() -> None:
    options = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=options)
    body = compressor.compress(b"x") + compressor.flush()  # of a size that it does not say
    with pytest.raises(DecompressionError):
        decompress(3, body, 1024 * 1024)
    assert decompress(3, body, 128 * 1024 * 1024) == b"x"


def test_unknown_algorithm_is_unsupported() -> None:
    with pytest.raises(DecompressionError) as raised:
        decompress(9, b"", 1)
    assert raised.value.unsupported


def test_zstd_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUPPORTED", (1, 2))
    with pytest.raises(RuntimeError, match=r"protosocket-rpc\[zstd\]"):
        wire_compression(ps.Compression.Zstd)
    with pytest.raises(DecompressionError):
        decompress(3, b"", 1)


def test_no_such_compression() -> None:
    with pytest.raises(ValueError, match="17"):
        ps.insecure_channel("localhost:1", compression=17)  # type: ignore[arg-type]  # the point


# -- per channel, server, call and message -------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_channel_compresses_requests(
    algorithm: ps.Compression, bytes_seen: list[tuple[int, int]]
) -> None:
    async with stub(channel_options={"compression": algorithm}) as each:
        assert await each.unary(TEXT) == TEXT
        assert await each.requests(stream(TEXT, TEXT)) == TEXT * 2
    assert [seen[0] for seen in bytes_seen] == [wire_compression(algorithm)] * 3
    assert all(size < len(TEXT) // 10 for _, size in bytes_seen)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_server_compresses_replies(
    algorithm: ps.Compression, bytes_seen: list[tuple[int, int]]
) -> None:
    async with stub(server_options={"compression": algorithm}) as each:
        assert await each.unary(TEXT) == TEXT
        assert [reply async for reply in each.replies(TEXT)] == [TEXT] * 3
    assert [seen[0] for seen in bytes_seen] == [wire_compression(algorithm)] * 4


async def test_call_says_otherwise_than_its_channel(bytes_seen: list[tuple[int, int]]) -> None:
    async with stub(channel_options={"compression": ps.Compression.Gzip}) as each:
        await each.unary(TEXT, compression=ps.Compression.NoCompression)
        assert bytes_seen == []
        await each.unary(TEXT, compression=ps.Compression.Deflate)
    assert [seen[0] for seen in bytes_seen] == [2]


async def test_handler_says_how_its_replies_are_compressed(
    bytes_seen: list[tuple[int, int]],
) -> None:
    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        context.set_compression(ps.Compression.Deflate)
        yield request
        context.disable_next_message_compression()
        yield request
        yield request

    async with stub(server_options={"compression": ps.Compression.Gzip}, Replies=replies) as each:
        assert [reply async for reply in each.replies(TEXT)] == [TEXT] * 3
    assert [seen[0] for seen in bytes_seen] == [2, 2]


async def test_large_messages_are_compressed_before_they_are_cut(
    bytes_seen: list[tuple[int, int]],
) -> None:
    import random

    large = bytes(random.Random(1).choices(b"abcd", k=1_000_000))
    async with stub(
        server_options={"compression": ps.Compression.Gzip},
        channel_options={"compression": ps.Compression.Gzip},
    ) as each:
        assert await each.unary(large) == large
        assert [reply async for reply in each.replies(large)] == [large] * 3
    assert len(bytes_seen) == 6  # requests and replies, each larger than one fragment
    assert all(64 * 1024 < size < len(large) for _, size in bytes_seen)


async def test_what_does_not_get_smaller_is_sent_as_it_is(
    bytes_seen: list[tuple[int, int]],
) -> None:
    async with stub(channel_options={"compression": ps.Compression.Gzip}) as each:
        assert await each.unary(b"x") == b"x"
        assert await each.unary(b"") == b""
    assert bytes_seen == []


# -- what the peer has not announced, and what it sends ------------------------------------


def test_nothing_is_compressed_towards_a_peer_that_has_not_said_so() -> None:
    for settings in (None, peer_settings(), peer_settings(compression=(2,))):
        server = Server(RpcLimits())
        if settings is not None:
            server.session.on_settings(settings)
        assert server.session.compress(1, TEXT) == (TEXT, b"")
    server.session.on_settings(peer_settings(compression=(1, 2)))
    assert len(server.session.compress(1, TEXT)[0]) < len(TEXT) // 10


@pytest.mark.parametrize("kind", ["UU", "US"])
@pytest.mark.parametrize(
    ("compression", "body", "code"),
    [(9, b"x", 12), (1, b"damaged", 13), (1, compress(1, bytes(100_000)), 8)],
)
def test_request_that_does_not_decompress_ends_its_rpc_alone(
    kind: str, compression: int, body: bytes, code: int
) -> None:
    server = Server(RpcLimits(max_receive_message_size=1000))
    server.receives(F(1, method=f"/test/{kind}", body=body, compression=compression))
    statuses = [frame.status for frame in server.sent() if frame.status is not None]
    assert [status[0] for status in statuses] == [code]
    assert server.accepts(kind, id=2, body=b"next").happened() == [("request", b"next")]


async def test_bomb_in_a_stream_ends_its_rpc_alone() -> None:
    options = {"limits": RpcLimits(max_receive_message_size=100_000)}
    async with stub(
        server_options=options, channel_options={"compression": ps.Compression.Gzip}
    ) as each:
        with pytest.raises(ps.AioRpcError) as raised:
            await each.requests(stream(bytes(10), bytes(1_000_000)))
        assert raised.value.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "100000" in str(raised.value.details())
        assert "the server's limit (RpcLimits.max_receive" in str(raised.value.details())
        assert await each.unary(b"after") == b"after"


async def test_bomb_in_a_reply_ends_its_call_alone() -> None:
    async def large(request: bytes, context: Any) -> bytes:
        return bytes(1_000_000) if request else b""

    async def large_replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield bytes(1_000_000)

    async with stub(
        server_options={"compression": ps.Compression.Gzip},
        channel_options={"limits": RpcLimits(max_receive_message_size=100_000)},
        Unary=large,
        Replies=large_replies,
    ) as each:
        for call in (each.unary(b"x"), each.replies(b"x").read()):
            with pytest.raises(ps.AioRpcError) as raised:
                await call
            assert raised.value.code() is ps.StatusCode.RESOURCE_EXHAUSTED
            assert "the client's limit (RpcLimits.max_receive" in str(raised.value.details())
        assert await each.unary(b"") == b""


async def test_without_compression_nothing_is_compressed(bytes_seen: list[tuple[int, int]]) -> None:
    async with stub() as each:
        assert await each.unary(TEXT) == TEXT
        assert [reply async for reply in each.replies(TEXT)] == [TEXT] * 3
    assert bytes_seen == []
