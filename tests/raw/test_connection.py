"""A connection over real sockets: order, and coalescing."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from raw.reactors import Echo
from support import Certificates, Recorder, connected, listening, wait_until

from protosocket_rpc.raw import Connection, Limits, connect
from protosocket_rpc.raw.codecs import ByteLineCodec
from protosocket_rpc.raw.endpoints import open_transport


async def test_messages_arrive_in_order(target: str) -> None:
    messages = [b"%d" % i for i in range(1000)]
    async with connected(target, server=Echo) as (client, server):
        for message in messages:
            client.connection.send(message)
        assert await client.received(1000) == messages
        assert server.messages == messages


async def test_small_and_large_messages_keep_their_order(
    certificates: Certificates, tls: bool
) -> None:
    messages = [b"%d" % i * (1 if i % 3 else 20_000) for i in range(100)]
    async with connected(
        codec=lambda: ByteLineCodec(max_line_size=1 << 20),
        server=Echo,
        certificates=certificates if tls else None,
    ) as (client, _):
        for message in messages:
            client.connection.send(message)
        assert await client.received(100) == messages


class TestCoalescing:
    """Many messages leave in one system call."""

    async def counted(
        self, target: str, reactor: Recorder
    ) -> tuple[Connection[bytes, bytes], list[int]]:
        """A connection, and the sizes of what its transport was given so far."""
        loop = asyncio.get_running_loop()
        connection = Connection(loop, ByteLineCodec(), reactor, Limits())
        protocol = CountedProtocol(connection)
        await open_transport(loop, lambda: protocol, target, None, None)
        return connection, protocol.writes

    async def test_messages_of_one_turn_leave_together(self) -> None:
        async with listening() as (server, reactors):
            connection, writes = await self.counted(server.target, Recorder())
            connection.flush_every = 1000
            for _ in range(500):
                connection.send(b"message")
            assert writes == []
            await wait_until(lambda: reactors and len(reactors[0].messages) == 500)
            assert writes == [500 * 8]
            connection.close()

    async def test_a_burst_leaves_in_groups_as_it_is_made(self) -> None:
        async with listening() as (server, reactors):
            connection, writes = await self.counted(server.target, Recorder())
            connection.flush_every = 16
            for _ in range(500):
                connection.send(b"message")
            assert writes == [16 * 8, 32 * 8, *[64 * 8] * 7]
            await wait_until(lambda: reactors and len(reactors[0].messages) == 500)
            assert writes[9:] == [4 * 8]
            connection.close()

    async def test_one_under_way_leaves_at_once_and_those_behind_it_together(self) -> None:
        async with listening() as (server, reactors):
            connection, writes = await self.counted(server.target, Recorder())
            connection.pace(1)
            for _ in range(31):
                connection.send(b"message")
            # The first; then groups that grow while the burst goes on.
            assert writes == [8, 2 * 8, 4 * 8, 8 * 8, 16 * 8]
            await wait_until(lambda: reactors and len(reactors[0].messages) == 31)
            connection.pace(1)
            connection.send(b"message")
            assert writes == [8, 2 * 8, 4 * 8, 8 * 8, 16 * 8, 8]
            connection.close()

    async def test_answers_to_one_read_leave_in_a_few_writes(self) -> None:
        async with listening() as (server, reactors):
            connection, writes = await self.counted(server.target, Echo())
            await wait_until(lambda: reactors)
            peer = reactors[0].connection
            peer.flush_every = 1000
            for _ in range(200):
                peer.send(b"request")
            await reactors[0].received(200)
            # All of them came in one read: a quarter of 200 is more than the 16 to begin with.
            assert writes == [16 * 8, 32 * 8, 64 * 8, 64 * 8, 24 * 8]
            connection.close()

    async def test_the_answer_to_one_that_came_alone_leaves_at_once(self) -> None:
        class Answers(Recorder):
            def on_messages(self, messages: list[bytes]) -> None:
                for _ in range(3):
                    self.connection.send(b"message")
                    left.append(sum(writes))
                super().on_messages(messages)

        left: list[int] = []  # after each answer, while the reactor is still at work
        async with listening() as (server, reactors):
            mine = Answers()
            connection, writes = await self.counted(server.target, mine)
            await wait_until(lambda: reactors)
            reactors[0].connection.send(b"request")
            await mine.received(1)
            assert left == [8, 8, 3 * 8]
            connection.close()

    async def test_the_kernel_agrees(self) -> None:
        async with listening() as (server, reactors):
            connection = await connect(server.target, ByteLineCodec(), Recorder())
            before = data_segments_sent(connection)
            connection.flush_every = 1000
            for _ in range(1000):
                connection.send(b"message")
            await wait_until(lambda: reactors and len(reactors[0].messages) == 1000)
            assert data_segments_sent(connection) - before == 1
            connection.close()

    async def test_a_large_message_is_not_joined_to_others(self) -> None:
        async with listening() as (server, _):
            connection, writes = await self.counted(server.target, Recorder())
            connection.send(b"small")
            connection.send(b"x" * 40_000)
            connection.send(b"small")
            connection.flush()
            assert writes == [6, 40_001, 6]
            connection.close()
            await connection.wait_closed()

    async def test_nothing_is_written_when_there_is_nothing(self) -> None:
        async with listening() as (server, _):
            connection, writes = await self.counted(server.target, Recorder())
            connection.flush()
            connection.close()
            await connection.wait_closed()
            assert writes == []


class CountedProtocol:
    """A connection whose transport counts. Not a subclass: it may be compiled."""

    def __init__(self, connection: Connection[bytes, bytes]) -> None:
        self._connection = connection
        self.writes: list[int] = []

    def connection_made(self, transport: Any) -> None:
        self._connection.connection_made(CountingTransport(transport, self.writes))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class CountingTransport:
    def __init__(self, transport: Any, writes: list[int]) -> None:
        self._transport = transport
        self._writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._writes.append(len(data))
        self._transport.write(data)


def data_segments_sent(connection: Connection[Any, Any]) -> int:
    """What Linux says of a TCP connection: the segments with data that have left."""
    sock = connection.get_extra_info("socket")
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    count: int = struct.unpack_from("I", info, 156)[0]  # tcpi_data_segs_out
    return count
