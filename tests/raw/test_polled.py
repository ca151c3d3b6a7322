"""A polled connection looks for bytes by itself, and leaves all else to its transport."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support import Certificates, Recorder, connected, listening, wait_until

from protosocket_rpc.raw import connect
from protosocket_rpc.raw.busy_poll import poller_of
from protosocket_rpc.raw.codecs import ByteLineCodec


@asynccontextmanager
async def pair(
    target: str = "127.0.0.1:0", **options: Any
) -> AsyncIterator[tuple[Recorder, Recorder, Any]]:
    """Client, server, and the server's connection, which has busy polling."""
    async with connected(target, busy_poll=60.0, **options) as (client, server):
        yield client, server, server.connection


def send(side: Recorder, line: bytes) -> None:
    """Send at once, not with the end of the turn."""
    side.connection.send(line)
    side.connection.flush()


def look(connection: Any, until: Any = lambda: False) -> None:
    """Look for far longer than bytes need over loopback. The loop has no turn meanwhile."""
    for _ in range(2000):
        connection.look()
        if until():
            break


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_bytes_are_received_between_two_turns(kind: str, tmp_path: Path) -> None:
    target = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path / 'socket'}"
    async with pair(target) as (client, server, connection):
        for n in range(20):
            send(client, b"%d" % n)
            look(connection, until=lambda: server.messages)
            assert server.messages == [b"%d" % n]
            server.messages.clear()
            send(client, b"by the loop, or by a look of its poller")
            await server.received(1)
        send(server, b"reply")
        assert await client.received(1) == [b"reply"]


async def test_large_messages_come_by_both_ways_in_order() -> None:
    lines = [b"%d" % n * 60_000 for n in range(10)]
    async with pair() as (client, server, connection):
        for line in lines:
            client.connection.send(line)
        while len(server.messages) < len(lines):
            look(connection, until=lambda: server.messages)
            await asyncio.sleep(0)
        assert server.messages == lines


async def test_paused_it_does_not_look() -> None:
    async with pair() as (client, server, connection):
        connection.pause_reading()
        send(client, b"x")
        look(connection)
        assert server.messages == []
        connection.resume_reading()
        assert await server.received(1) == [b"x"]


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_closed_it_does_not_look(end: str) -> None:
    async with pair() as (client, server, connection):
        await server.until(lambda: server.events)
        send(client, b"x")
        if end == "close":
            connection.close()
        else:
            connection.abort(ConnectionError("enough"))
        look(connection)
        await server.closed()
        look(connection)
        assert server.messages == []
        assert poller_of(asyncio.get_running_loop())._last is not connection


async def test_the_end_of_the_peer_is_told_once() -> None:
    async with pair() as (client, server, connection):
        send(client, b"last")
        client.connection.close()
        look(connection, until=lambda: server.messages)
        look(connection)
        assert await server.closed() is None
        assert server.messages == [b"last"]
        assert server.events.count("eof") == 1


async def test_a_reset_is_the_cause_of_the_end() -> None:
    async with listening(busy_poll=60.0) as (listener, reactors):
        with socket.create_connection((listener.address.host, listener.address.port)) as peer:
            peer.sendall(b"x\n")
            await wait_until(lambda: reactors and reactors[0].messages)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        look(reactors[0].connection)
        assert isinstance(await reactors[0].closed(), ConnectionResetError)


async def test_an_error_that_a_look_takes_from_the_system_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(fd: int, size: int) -> bytes:
        raise ConnectionResetError("between a look and its read")

    async with pair() as (client, server, connection):
        monkeypatch.setattr("protosocket_rpc.raw.polled.os.read", read)
        send(client, b"x")
        look(connection, until=lambda: connection.closing)
        assert isinstance(await server.closed(), ConnectionResetError)
        monkeypatch.undo()


@pytest.mark.parametrize("kind", ["tls", "memory"])
async def test_what_has_no_plain_socket_is_left_to_the_loop(
    kind: str, certificates: Certificates
) -> None:
    options: dict[str, Any] = {"certificates": certificates} if kind == "tls" else {}
    target = "localhost:0" if kind == "tls" else "memory:polled"
    async with pair(target, **options) as (client, server, connection):
        send(client, b"x")
        look(connection)
        assert server.messages == []
        assert await server.received(1) == [b"x"]


async def test_others_on_the_loop_have_their_turn() -> None:
    async with pair() as (client, server, _), listening() as (other, _):
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        idle = Recorder()
        await connect(other.target, ByteLineCodec(), idle)
        for n in range(50):
            send(client, b"%d" % n)
            await server.received(1)
        await asyncio.sleep(0.01)  # a timer
        assert turns > 50
        counting.cancel()
        idle.connection.close()
        await idle.closed()
