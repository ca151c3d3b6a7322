"""Connections within the process: what a protocol sees of them is what it sees of a Unix socket."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support import Certificates, Recorder, connected, listening, wait_until

from protosocket_rpc.raw import bind, connect
from protosocket_rpc.raw.codecs import ByteLineCodec
from protosocket_rpc.raw.endpoints import open_transport
from protosocket_rpc.raw.memory import CAPACITY

MIB = 1 << 20


class End(asyncio.Protocol):
    """One end of a connection, which notes what happens to it."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.data = bytearray()
        self.pieces: list[int] = []
        self.events: list[str] = []
        self.error: Exception | None = None
        self.stays = False
        self.pauses = False
        self.on_data: Callable[[], object] | None = None
        self.on_room: Callable[[], object] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.pauses:
            transport.pause_reading()
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.pieces.append(len(data))
        if self.on_data is not None:
            self.on_data()

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")
        if self.on_room is not None:
            self.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.error = exc

    @property
    def lost(self) -> bool:
        return "lost" in self.events


class Ends:
    def __init__(self, client: End, server: End) -> None:
        self.client = client
        self.server = server


@asynccontextmanager
async def joined(target: str) -> AsyncIterator[Ends]:
    loop = asyncio.get_running_loop()
    client, server = End(), End()
    binding = bind(target)
    if binding.memory is not None:
        binding.memory.listen(loop, lambda: server)
        listener: Any = binding.memory
    else:
        listener = await loop.create_unix_server(lambda: server, sock=binding.sockets[0])
    await open_transport(loop, lambda: client, target, None, None)
    await wait_until(lambda: server.events)
    yield Ends(client, server)
    for end in (client, server):
        if not end.lost:
            end.transport.abort()
    await wait_until(lambda: client.lost and server.lost)
    listener.close()
    await listener.wait_closed()


@pytest.fixture(params=["unix", "memory"])
async def ends(request: pytest.FixtureRequest, socket_dir: Path) -> AsyncIterator[Ends]:
    """Two ends of a connection: of a real one, and of one in memory."""
    target = "memory:test" if request.param == "memory" else f"unix:{socket_dir / 'socket'}"
    async with joined(target) as made:
        yield made


class TestWriting:
    async def test_what_is_written_arrives_in_a_later_turn(self, ends: Ends) -> None:
        ends.client.transport.write(b"one")
        ends.client.transport.writelines([b"two", bytearray(b"three"), memoryview(b"four")])
        assert not ends.server.data
        await wait_until(lambda: len(ends.server.data) == 15)
        assert ends.server.data == b"onetwothreefour"
        ends.server.transport.write(b"back")
        await wait_until(lambda: ends.client.data == b"back")

    async def test_what_is_written_may_change_afterwards(self, ends: Ends) -> None:
        data = bytearray(b"before")
        ends.client.transport.write(data)
        data[:] = b"after!"
        await wait_until(lambda: ends.server.data)
        assert ends.server.data == b"before"

    async def test_a_lot_arrives_in_pieces(self, ends: Ends) -> None:
        data = bytes(range(256)) * (4 * MIB // 256)
        ends.client.transport.write(data)
        await wait_until(lambda: len(ends.server.data) >= len(data))
        assert ends.server.data == data
        assert len(ends.server.pieces) > 10

    async def test_a_reader_that_pauses_stops_the_writer(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.set_write_buffer_limits(high=1000)
        written = 0
        while "pause" not in client.events:
            client.transport.write(bytes(10_000))
            written += 10_000
            await asyncio.sleep(0)
            assert written < 8 * MIB
        held = client.transport.get_write_buffer_size()
        assert 1000 < held < written
        assert not server.data
        server.transport.resume_reading()
        await wait_until(lambda: len(server.data) == written)
        assert client.events == ["made", "pause", "resume"]
        assert client.transport.get_write_buffer_size() == 0

    async def test_limits(self, ends: Ends) -> None:
        transport = ends.client.transport
        transport.set_write_buffer_limits(high=4000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(low=500)
        assert transport.get_write_buffer_limits() == (500, 2000)
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        with pytest.raises(ValueError, match="high"):
            transport.set_write_buffer_limits(high=1, low=2)

    async def test_in_the_context_of_the_end(self, ends: Ends) -> None:
        variable = contextvars.ContextVar("variable", default="nobody's")
        seen: list[str] = []
        ends.server.on_data = lambda: seen.append(variable.get())
        variable.set("the writer's")
        ends.client.transport.write(b"x")
        await wait_until(lambda: seen)
        assert seen == ["nobody's"]


class TestEnds:
    async def test_half_close(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        server.stays = True
        client.transport.write(b"last")
        assert client.transport.can_write_eof()
        client.transport.write_eof()
        client.transport.write_eof()  # does nothing
        with pytest.raises(RuntimeError):
            client.transport.write(b"more")
        await wait_until(lambda: "eof" in server.events)
        assert server.data == b"last"
        server.transport.write(b"answer")
        await wait_until(lambda: client.data == b"answer")
        assert not client.lost
        assert not server.lost
        server.transport.close()
        await wait_until(lambda: client.lost and server.lost)
        assert client.error is server.error is None

    async def test_the_end_of_one_is_the_end_of_the_other(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        client.transport.write(b"last")
        client.transport.close()
        assert client.transport.is_closing()
        assert not client.lost
        await wait_until(lambda: client.lost and server.lost)
        assert server.data == b"last"
        assert server.events == ["made", "eof", "lost"]
        assert client.events == ["made", "lost"]
        assert client.error is server.error is None

    async def test_closing_behind_what_the_peer_has_not_read(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        server.transport.pause_reading()
        client.transport.write(bytes(4 * MIB))
        client.transport.close()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not client.lost
        server.transport.resume_reading()
        await wait_until(lambda: client.lost and server.lost)
        assert len(server.data) == 4 * MIB
        assert client.error is server.error is None

    async def test_abort_drops_what_waits(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        server.transport.pause_reading()
        client.transport.write(bytes(4 * MIB))
        client.transport.abort()
        await wait_until(lambda: client.lost)
        assert client.error is None
        server.transport.resume_reading()
        await wait_until(lambda: server.lost)
        assert len(server.data) < 4 * MIB

    async def test_writing_to_who_has_gone(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        server.transport.pause_reading()  # it does not notice
        client.transport.close()
        await wait_until(lambda: client.lost)
        server.transport.write(b"too late")
        await wait_until(lambda: server.lost)
        assert isinstance(server.error, BrokenPipeError)

    async def test_going_without_reading(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        client.transport.pause_reading()
        server.transport.write(b"not read")
        for _ in range(5):
            await asyncio.sleep(0)
        client.transport.close()
        await wait_until(lambda: client.lost and server.lost)
        assert client.error is None
        assert isinstance(server.error, ConnectionResetError)

    async def test_both_close_while_neither_reads(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        for end in (client, server):
            end.transport.pause_reading()
        for end in (client, server):
            end.transport.write(bytes(4 * MIB))
        client.transport.close()
        server.transport.close()
        assert not client.lost
        client.transport.abort()
        await wait_until(lambda: client.lost and server.lost)
        assert client.error is None
        assert isinstance(server.error, (BrokenPipeError, ConnectionResetError))

    async def test_nothing_is_read_after_close(self, ends: Ends) -> None:
        client, server = ends.client, ends.server
        client.transport.write(b"x")
        server.transport.close()
        server.transport.resume_reading()
        await wait_until(lambda: server.lost)
        assert not server.data

    async def test_a_protocol_that_fails_loses_its_connection(
        self, ends: Ends, loop_errors: list[dict[str, Any]]
    ) -> None:
        def fail() -> None:
            raise KeyError("a bug")

        ends.server.on_data = fail
        ends.client.transport.write(b"x")
        await wait_until(lambda: ends.server.lost and ends.client.lost)
        assert isinstance(ends.server.error, KeyError)
        assert isinstance(loop_errors.pop()["exception"], KeyError)


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_ending_when_there_is_room(how: str) -> None:
    """In memory only: what asyncio's sockets report then is another matter."""
    async with joined("memory:room") as ends:
        client, server = ends.client, ends.server
        client.on_room = getattr(client.transport, how)
        server.transport.pause_reading()
        client.transport.write(bytes(4 * MIB))
        server.transport.resume_reading()
        await wait_until(lambda: client.lost and server.lost)
        assert client.events == ["made", "pause", "resume", "lost"]


async def test_who_pauses_before_it_reads_is_paused() -> None:
    binding = bind("memory:paused")
    assert binding.memory is not None
    loop = asyncio.get_running_loop()
    client, server = End(), End()
    server.pauses = True
    binding.memory.listen(loop, lambda: server)
    await open_transport(loop, lambda: client, "memory:paused", None, None)
    client.transport.write(b"x")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not server.data
    server.transport.resume_reading()
    await wait_until(lambda: server.data)
    client.transport.abort()
    await wait_until(lambda: client.lost and server.lost)
    binding.close()


class TestNames:
    async def test_a_name_is_held_once(self) -> None:
        binding = bind("memory:taken")
        with pytest.raises(OSError, match="in use"):
            bind("memory:taken")
        binding.close()
        bind("memory:taken").close()

    async def test_a_name_that_is_forgotten_is_free(self) -> None:
        bind("memory:forgotten")
        bind("memory:forgotten").close()

    async def test_nobody_listens(self) -> None:
        with pytest.raises(ConnectionRefusedError, match="nothing listens on memory:nobody"):
            await connect("memory:nobody", ByteLineCodec(), Recorder())
        binding = bind("memory:bound")
        with pytest.raises(ConnectionRefusedError, match="nothing listens on memory:bound"):
            await connect("memory:bound", ByteLineCodec(), Recorder())
        binding.close()

    async def test_a_server_that_closed_takes_no_more(self) -> None:
        async with listening("memory:closed") as (server, _):
            server.close()
            with pytest.raises(ConnectionRefusedError):
                await connect("memory:closed", ByteLineCodec(), Recorder())
            bind("memory:closed").close()

    async def test_another_loop(self) -> None:
        async with listening("memory:loops"):

            def elsewhere() -> None:
                asyncio.run(connect("memory:loops", ByteLineCodec(), Recorder()))

            with pytest.raises(ConnectionRefusedError, match="another event loop"):
                await asyncio.to_thread(elsewhere)

    async def test_there_is_no_tls(self, certificates: Certificates) -> None:
        with pytest.raises(ValueError, match="no TLS for memory:tls"):
            async with listening("memory:tls", ssl=certificates.server_context()):
                pass
        async with listening("memory:tls"):
            with pytest.raises(ValueError, match="no TLS for memory:tls"):
                await connect(
                    "memory:tls", ByteLineCodec(), Recorder(), ssl=certificates.client_context()
                )

    async def test_the_name_of_a_peer(self) -> None:
        async with connected("memory:named") as (client, server):
            for reactor in (client, server):
                assert reactor.connection.get_extra_info("peername") == "memory:named"
                assert reactor.connection.get_extra_info("socket") is None

    def test_a_forked_child_has_the_name_for_itself(self) -> None:
        program = """
import os
from protosocket_rpc.raw import bind
held = bind("memory:forked")
child = os.fork()
bind("memory:forked") if not child else os.waitpid(child, 0)[1] and exit("it had not")
"""
        subprocess.run([sys.executable, "-c", program], check=True)


async def test_capacity_is_what_an_unread_connection_holds() -> None:
    """Backpressure begins there: what more is sent waits in the sender, who knows of it."""
    async with connected("memory:capacity") as (client, server):
        server.connection.pause_reading()
        sent = 0
        while client.connection.writable:
            client.connection.send(bytes(1023))
            sent += 1024
            await asyncio.sleep(0)
        assert CAPACITY < sent <= CAPACITY + 4 * 1024
        server.connection.resume_reading()
        await client.until(lambda: "writable" in client.events)
        await server.received(sent // 1024)
