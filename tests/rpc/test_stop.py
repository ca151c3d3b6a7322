"""A server that stops: within its grace, after it, and whoever asks for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rpc.handlers import Handlers
from rpc.notes import (
    Note,
    NoteCodec,
    Peer,
    Server,
    connect,
    peer_of,
    serving,
)
from support import Certificates, wait_until

from protosocket_rpc import raw
from protosocket_rpc.errors import RemoteCancelled


async def test_stop_lets_handlers_finish_within_the_grace() -> None:
    go_on = asyncio.Event()

    async def answer(note: Note) -> Note:
        await go_on.wait()
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        completion = client.unary(Note("hello"))
        await wait_until(lambda: server.sessions and server.sessions[0].rpcs)
        stopping = asyncio.ensure_future(server.rpc.stop(30))
        await asyncio.sleep(0)
        with pytest.raises(RemoteCancelled):
            await client.unary(Note("too late"))
        with pytest.raises(OSError, match=r"."):
            await connect(server.rpc.target)
        assert not stopping.done()
        go_on.set()
        assert (await completion).text == "hello"
        await stopping
        await wait_until(lambda: not client.alive)


async def test_stop_cancels_after_the_grace_and_awaits_every_handler() -> None:
    ended: list[str] = []

    async def unary(note: Note) -> Note:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            ended.append("unary")
        return note

    async def stream(note: Note) -> AsyncIterator[Note]:
        try:
            yield Note("item")
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            ended.append("stream")

    def new_rpc(note: Note) -> Any:
        return unary(note) if note.text == "unary" else stream(note)

    async with serving(new_rpc) as server, await connect(server.rpc.target) as client:
        completion = client.unary(Note("unary"))
        replies = client.stream(Note("stream"))
        await replies.__anext__()
        await server.rpc.stop(0.05)
        assert sorted(ended) == ["stream", "unary"]
        with pytest.raises(RemoteCancelled):
            await completion
        with pytest.raises(RemoteCancelled):
            await replies.__anext__()
        await server.rpc.stop(0.05)


async def test_stop_does_not_wait_for_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protosocket_rpc.rpc.server._LAST_WORDS", 0.05)

    async def answer(note: Note) -> AsyncIterator[Note]:
        while True:
            yield Note("x" * 100_000)

    async with serving(answer) as server, peer_of(server) as peer:
        peer.connection.pause_reading()
        peer.say(id=1)
        await wait_until(lambda: server.sessions and server.sessions[0].rpcs)
        await wait_until(lambda: not server.sessions[0].connection.writable)
        await server.rpc.stop()
        peer.connection.resume_reading()


@pytest.mark.parametrize("grace", [None, 3600])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_can_stop_its_server(grace: float | None, waits: bool) -> None:
    """It is not among those that it waits for."""
    servers: list[Server] = []

    async def answer(note: Note) -> Note:
        if waits:
            await asyncio.sleep(0)
        await servers[0].rpc.stop(grace)
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        servers.append(server)
        with pytest.raises(RemoteCancelled):
            await client.unary(Note())


async def test_a_connection_that_is_made_while_the_server_stops_is_closed(
    certificates: Certificates,
) -> None:
    handlers = Handlers()
    tls = certificates.client_context()
    context = certificates.server_context()
    async with serving(handlers.new_rpc, ssl=context, target="localhost:0") as server:
        loop = asyncio.get_running_loop()
        host, port = server.rpc.target.split(":")
        async with await connect(server.rpc.target, ssl=tls) as client:
            call = client.unary(Note())
            await handlers.running.acquire()
            with socket.create_connection((host, int(port))) as sock:
                sock.setblocking(False)
                # Accepted, by the time that this one is.
                await (await connect(server.rpc.target, ssl=tls)).close()
                stopping = asyncio.ensure_future(server.rpc.stop(3600))
                await asyncio.sleep(0)
                late = Peer()
                await loop.create_connection(
                    lambda: raw.Connection(loop, NoteCodec(), late, raw.Limits()),
                    sock=sock.dup(),
                    ssl=tls,
                    server_hostname="localhost",
                )
                assert await late.closed is None
            assert not stopping.done()
            call.cancel()
            await stopping
    assert len(server.services) == 2
