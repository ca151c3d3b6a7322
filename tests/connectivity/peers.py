"""Servers of frames by hand, for what a well-behaved server does not do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protosocket_rpc.raw.accepting import listen
from protosocket_rpc.raw.binding import bind
from protosocket_rpc.rpc.message import END
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import (
    Frame,
    GoAway,
    Settings,
    encode_body_frame,
    encode_frame,
    go_away_field,
    pong_field,
    settings_field,
)


class Peer:
    """One connection, seen from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._codec = FrameCodec(1 << 24)
        self._data = b""
        self._frames: list[Frame] = []
        self.heard = b""
        self.control: list[Frame] = []

    async def next(self) -> Frame:
        """The next frame that is not about the connection itself."""
        while not self._frames:
            if not await self.read():
                raise EOFError
        return self._frames.pop(0)

    async def read(self) -> bool:
        """Take in what arrives. False at the end."""
        data = await self.reader.read(1 << 16)
        self.heard += data
        self._data += data
        frames: list[Frame] = []
        end = self._codec.decode(self._data, frames)
        self._data = self._data[end:]
        for frame in frames:
            (self._frames if frame.id else self.control).append(frame)
        return bool(data)

    async def read_all(self) -> None:
        """Take in all that arrives until the client closes, or resets."""
        with contextlib.suppress(ConnectionResetError):
            while await self.read():
                pass

    def pong(self, token: int | None) -> None:
        self.writer.write(encode_frame(0, END, pong_field(token or 0)))

    def settings(self) -> None:
        settings = Settings()
        settings.fragments = settings.credit = settings.ping = True
        settings.initial_credit = 1 << 20
        self.writer.write(encode_frame(0, END, settings_field(settings)))

    def go_away(self, last_id: int, code: int = 0, reason: str = "a test") -> None:
        go_away = GoAway()
        go_away.last_id = last_id
        go_away.code = code
        go_away.reason = reason
        self.writer.write(encode_frame(0, END, go_away_field(go_away)))

    def reply(self, id: int, body: bytes) -> None:
        self.writer.write(encode_body_frame(id, b"", body, b""))

    async def echo(self) -> None:
        """Answer unary calls with their requests, until the client closes."""
        try:
            while True:
                frame = await self.next()
                if frame.body is not None and frame.method:
                    self.reply(frame.id, frame.body)
        except EOFError:
            pass

    def reset(self) -> None:
        """End the connection as a crash does."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Peers:
    """A listening socket. Connections are taken by `accept`."""

    def __init__(self) -> None:
        self.target = ""
        self.count = 0
        self._accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self.all: list[Peer] = []
        self.closed = False

    def add(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:  # it was on its way: a channel connects again when it has lost a peer
            writer.close()
            return
        peer = Peer(reader, writer)
        self.count += 1
        self.all.append(peer)
        self._accepted.put_nowait(peer)

    async def accept(self) -> Peer:
        return await self._accepted.get()


@asynccontextmanager
async def listening(address: str = "127.0.0.1:0") -> AsyncIterator[Peers]:
    peers = Peers()
    loop = asyncio.get_running_loop()

    def accept() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), peers.add, loop=loop)

    binding = bind(address)
    peers.target = str(binding.address)
    (listener,) = await listen(loop, binding, accept, 100)
    try:
        yield peers
    finally:
        listener.close()
        peers.closed = True
        for peer in peers.all:
            peer.writer.close()
        closed = [peer.writer.wait_closed() for peer in peers.all]
        await asyncio.gather(*closed, return_exceptions=True)  # some were reset
        await listener.wait_closed()
