"""Large frames over sockets: uvloop reads the rest of one into memory of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support import RawPeer, Recorder, connected, listening, wait_until

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import encode_body_frame

BODY = random.Random(1).randbytes(1 << 20)
LARGE = encode_body_frame(1, b"", BODY, b"")
SMALL = encode_body_frame(2, b"", b"small", b"")


class Watched:
    """A codec that counts the bytes that it was not handed."""

    def __init__(self) -> None:
        self._codec = FrameCodec(4 << 20)
        self.direct = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codec, name)

    def filled(self, size: int) -> None:
        self.direct += size
        self._codec.filled(size)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
async def test_large_and_small_frames_keep_their_order(unix: bool, tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/socket" if unix else "127.0.0.1:0"
    sent = [SMALL, LARGE, LARGE, SMALL, SMALL, LARGE, SMALL]
    async with connected(target, lambda: FrameCodec(4 << 20)) as (client, server):
        for data in sent:
            await client.connection.drain()
            client.connection.write(data)
        frames: list[Any] = await server.received(len(sent))
    assert [frame.body for frame in frames] == [BODY if s is LARGE else b"small" for s in sent]


async def test_after_a_large_frame_small_ones_are_read_as_ever() -> None:
    codec = Watched()
    async with connected(codec=lambda: codec) as (client, server):
        transport = server.connection._transport
        ordinary = transport.get_protocol()
        for _ in range(2):
            client.connection.write(LARGE)
            await server.received(1)
            for _ in range(100):
                client.connection.write(SMALL)
                await server.received(1)
            assert transport.get_protocol() is ordinary
            if isinstance(asyncio.get_running_loop(), uvloop.Loop):
                assert codec.direct
                codec.direct = 0


class TestInTheMiddle:
    """A peer whose large frame has arrived in part."""

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[tuple[RawPeer, Recorder, Watched]]:
        codec = Watched()
        async with listening(codec=lambda: codec) as (server, reactors):
            peer = await RawPeer.connect(server.target)
            await wait_until(lambda: reactors and reactors[0].events)
            reactor = reactors[0]
            reactor.connection.pause_reading()  # so that it comes in large pieces
            await peer.send(LARGE[:300_000])
            reactor.connection.resume_reading()
            await peer.send(LARGE[300_000:310_000])
            if isinstance(asyncio.get_running_loop(), uvloop.Loop):
                await wait_until(lambda: codec.direct)
            else:
                await wait_until(lambda: codec.unfinished)
                assert not codec.direct
            yield peer, reactor, codec
            peer.socket.close()

    async def test_the_rest_comes_and_more(self) -> None:
        async with self.begun() as (peer, reactor, codec):
            direct = codec.direct
            reactor.connection.pause_reading()
            reactor.connection.resume_reading()
            await peer.send(LARGE[310_000:] + SMALL + SMALL)
            frames: list[Any] = await reactor.received(3)
            assert [frame.body for frame in frames] == [BODY, b"small", b"small"]
            assert bool(codec.direct > direct) == bool(direct)

    async def test_the_peer_ends(self) -> None:
        async with self.begun() as (peer, reactor, _):
            peer.end()
            connection = reactor.connection
            await connection.wait_closed()
            assert isinstance(connection.failure, ConnectionClosed)
            assert "in the middle of a message" in str(connection.failure)

    @pytest.mark.parametrize("abort", [False, True])
    async def test_this_side_ends(self, abort: bool) -> None:
        async with self.begun() as (_, reactor, _):
            connection = reactor.connection
            if abort:
                connection.abort(ConnectionClosed("enough"))
            else:
                connection.close()
            await connection.wait_closed()
            assert reactor.messages == []
