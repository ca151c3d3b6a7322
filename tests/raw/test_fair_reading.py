"""A server that never runs out of what to send still hears its peer, and holds no more for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support import Certificates, Recorder, connected, wait_until

from protosocket_rpc.raw import Connection
from protosocket_rpc.raw.connection import MOST_WAITING

LINE = b"x" * 9_999  # and its end


QUESTIONS = 10


class Endless(Recorder):
    """Fills the connection whenever there is room, until it has been asked often enough."""

    def on_open(self, connection: Connection[Any, Any]) -> None:
        super().on_open(connection)
        connection.request_writable()

    def on_writable(self) -> None:
        while self.connection.writable and len(self.messages) < QUESTIONS:
            self.connection.send(LINE)

    def on_message(self, message: Any) -> None:
        super().on_message(message)
        self.connection.send(b"answer")


class WithSmallBuffers(Endless):
    def on_open(self, connection: Connection[Any, Any]) -> None:
        connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        super().on_open(connection)


class Waiting(Endless):
    """As if so many messages waited for the connection to be writable."""

    waiting = 0

    def backlog(self) -> int:
        return self.waiting


class Asks(Recorder):
    """Asks again as soon as it has the answer, and remembers what came in between."""

    lines = 0

    def on_message(self, message: Any) -> None:
        if message == b"answer":
            super().on_message(message)
            self.connection.send(b"question")
        else:
            self.lines += 1
            self._changed.set()


@pytest.mark.parametrize("server", [Endless, WithSmallBuffers])
async def test_a_server_whose_output_never_ends_reads(
    server: type[Endless], certificates: Certificates, tls: bool
) -> None:
    made = certificates if tls else None
    async with connected(client=Asks, server=server, certificates=made) as (client, _):
        client.connection.send(b"question")
        await client.received(QUESTIONS)


async def test_it_reads_once_each_time_that_its_peer_has() -> None:
    async with connected("memory:endless", client=Asks, server=Endless) as (client, _):
        assert isinstance(client, Asks)
        client.connection.send(b"question")
        await client.received(QUESTIONS)
        # The transport holds 128 KiB at the most. An answer leaves behind what it holds, and the
        # next question is read when it is empty again.
        assert client.lines < QUESTIONS * 60


async def test_it_does_not_while_too_much_waits() -> None:
    async with connected("memory:waiting", client=Asks, server=Waiting) as (client, server):
        assert isinstance(client, Asks)
        assert isinstance(server, Waiting)
        server.waiting = MOST_WAITING + 1
        await client.until(lambda: client.lines > 100)  # what was due before is not any more
        client.connection.send(b"question")
        await client.until(lambda: client.lines > 1000)
        assert not server.messages
        server.waiting = MOST_WAITING
        await client.received(QUESTIONS)


async def test_who_waits_in_drain_counts() -> None:
    async def produce(connection: Connection[Any, Any]) -> None:
        while True:
            await connection.drain()
            if connection.writable:
                connection.send(LINE)

    async def asked(server: Recorder, producers: int, until: Callable[[], object]) -> None:
        tasks = [asyncio.ensure_future(produce(server.connection)) for _ in range(producers)]
        await wait_until(until)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async with connected("memory:drain", client=Asks) as (client, server):
        assert isinstance(client, Asks)
        while server.connection.writable:
            server.connection.send(LINE)
        client.connection.send(b"question")
        await asked(server, MOST_WAITING + 1, lambda: client.lines > 1000)
        assert not server.messages
        await asked(server, MOST_WAITING, lambda: server.messages)
