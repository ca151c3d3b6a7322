"""Peers that do not read, and peers that only send: nobody's memory grows for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from support import Certificates, RawPeer, Recorder, connected, listening, wait_until

from protosocket_rpc.errors import ConnectionClosed, OutputQueueFull
from protosocket_rpc.raw import Connection, Limits
from protosocket_rpc.raw.codecs import ProtobufCodec

LINE = b"x" * 9_999  # and its end


@asynccontextmanager
async def stalled(
    limits: Limits | None = None, reactor: type[Recorder] = Recorder
) -> AsyncIterator[tuple[RawPeer, Recorder, Connection[Any, Any], int]]:
    """A server's connection to a peer that does not read; how many lines it took to notice."""
    async with listening(limits=limits, reactor=reactor) as (server, reactors):
        with await RawPeer.connect(server.target) as peer:
            await wait_until(lambda: reactors and reactors[0].events)
            connection = reactors[0].connection
            count = 0
            while connection.writable:
                connection.send(LINE)
                count += 1
            yield peer, reactors[0], connection, count
            if not connection.closing:
                connection.abort(RuntimeError("the test is over"))
            await connection.wait_closed()


async def read_lines(peer: RawPeer, count: int) -> None:
    left = count * (len(LINE) + 1)
    while left:
        left -= len(await peer.read(min(left, 1 << 20)))


def fill(connection: Connection[Any, Any]) -> int:
    """Queue lines until there is no room for another; how many."""
    count = 0
    with contextlib.suppress(OutputQueueFull):
        while True:
            connection.send(LINE)
            count += 1
            assert count * len(LINE) < 200_000_000  # rather than take all memory there is
    return count


async def test_a_peer_that_does_not_read_is_noticed() -> None:
    async with stalled() as (_, reactor, connection, _):
        assert not connection.writable
        assert "stalled" in repr(connection)
        assert reactor.events == ["open"]


async def test_drain_waits_for_the_peer() -> None:
    async with stalled() as (peer, _, connection, count):
        waiting = [asyncio.ensure_future(connection.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        await read_lines(peer, count)
        await asyncio.gather(*waiting)
        assert connection.writable
        assert connection.queued == 0


async def test_drain_lets_the_longest_waiting_send_first() -> None:
    """One that finds that others were faster waits again, but not behind them."""
    sent: list[str] = []

    async def send(name: str, connection: Connection[bytes, bytes], times: int) -> None:
        for _ in range(times):
            await connection.drain()
            assert connection.writable
            sent.append(name)
            while connection.writable:
                connection.send(LINE)

    async with stalled() as (peer, _, connection, _):
        senders = [
            asyncio.ensure_future(send(name, connection, times))
            for name, times in (("a", 4), ("b", 3), ("c", 2))
        ]
        reader = asyncio.ensure_future(peer.read_all())
        await asyncio.gather(*senders)
        connection.close()
        await reader
    assert "".join(sent) == "abcabcaba"


async def test_drain_does_not_wait_without_need() -> None:
    async with connected() as (client, _):
        client.connection.send(b"message")
        coroutine = client.connection.drain()
        with pytest.raises(StopIteration):
            coroutine.send(None)


async def test_a_cancelled_drain_harms_nobody() -> None:
    async with stalled() as (peer, _, connection, count):
        cancelled = asyncio.ensure_future(connection.drain())
        waiting = asyncio.ensure_future(connection.drain())
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await read_lines(peer, count)
        await waiting


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    async with stalled() as (_, _, connection, _):
        for wait in (connection.drain, connection.wait_closed) * 3:
            waiting = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert connection._writable_waiters == []
        assert connection._close_waiters == []


async def test_who_gives_up_after_others_were_faster_is_not_counted() -> None:
    """The next that finds the same waits where it was, in front of those that came later."""
    async with stalled() as (peer, _, connection, _):
        woken: list[str] = []

        async def send(name: str) -> None:
            await connection.drain()
            woken.append(name)
            while connection.writable:
                connection.send(LINE)
            for _ in range(500):  # more than the peer reads here
                connection.send(LINE)

        first, second, third = (asyncio.ensure_future(send(name)) for name in "123")
        await asyncio.sleep(0)
        while not woken:
            await peer.read(1 << 16)
        await wait_until(lambda: connection._overtaken == 2)  # the others wait again
        second.cancel()
        last = asyncio.ensure_future(send("4"))
        await asyncio.wait([first, second])
        assert connection._overtaken == 1
        third.cancel()
        last.cancel()
        await asyncio.wait([third, last])
        assert connection._writable_waiters == []
        assert connection._overtaken == 0


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
async def test_drain_ends_with_the_connection(how: str) -> None:
    async with stalled() as (peer, _, connection, _):
        waiting = asyncio.ensure_future(connection.drain())
        await asyncio.sleep(0)
        if how == "close":
            connection.close()
        elif how == "abort":
            connection.abort(RuntimeError("enough"))
        else:
            peer.reset()
        with pytest.raises(ConnectionClosed, match="before its peer had read enough") as raised:
            await waiting
        if how == "abort":
            assert isinstance(raised.value.__cause__, RuntimeError)
        connection.abort(RuntimeError("the peer reads nothing that close() left"))


async def test_the_reactor_is_told_when_the_peer_reads_again() -> None:
    async with stalled() as (peer, reactor, connection, count):
        await read_lines(peer, count)
        await reactor.until(lambda: "writable" in reactor.events)
        assert reactor.events.count("writable") == 1
        assert connection.writable


async def test_a_peer_that_is_gone_when_more_is_sent_is_told_of_once() -> None:
    """The first write to a closed socket succeeds, and has the next one fail: in the same turn."""
    async with stalled() as (peer, reactor, connection, _):
        connection.send(LINE)
        with contextlib.suppress(BlockingIOError):
            while peer.socket.recv(1 << 20):
                pass
        peer.close()
        assert isinstance(await reactor.closed(), (BrokenPipeError, ConnectionResetError))
        assert reactor.events.count("close") == 1


@pytest.mark.parametrize("size", [9_999, 100_000])
async def test_who_sends_while_there_is_room_is_stopped_by_the_end(size: int) -> None:
    async with listening() as (server, reactors):
        with await RawPeer.connect(server.target) as peer:
            await wait_until(lambda: reactors and reactors[0].events)
            connection = reactors[0].connection
            peer.reset()
            count = 0
            while connection.writable:
                connection.send(bytes(size))
                count += 1
                assert count < 1000  # rather than take all memory there is
            await reactors[0].closed()


async def test_a_producer_in_on_writable_sends_everything() -> None:
    class Producer(Recorder):
        left = 3000

        def on_open(self, connection: Connection[Any, Any]) -> None:
            super().on_open(connection)
            connection.request_writable()

        def on_writable(self) -> None:
            super().on_writable()
            while self.left and self.connection.writable:
                self.connection.send(LINE)
                self.left -= 1

    async with connected(server=Producer) as (client, server):
        assert len(await client.received(3000)) == 3000
        assert server.events.count("writable") > 1  # it was stopped in between


async def test_a_producer_with_drain_sends_everything(
    certificates: Certificates, tls: bool
) -> None:
    async with connected(certificates=certificates if tls else None) as (client, server):
        most = 0
        for _ in range(3000):
            client.connection.send(LINE)
            most = max(most, client.connection.queued)
            await client.connection.drain()
        assert len(await server.received(3000)) == 3000
        assert most <= 20_000  # no more than what was in hand when the peer was found slow


class TestTheQueue:
    async def test_it_holds_what_the_peer_does_not_read_in_order(self) -> None:
        async with stalled() as (peer, _, connection, count):
            before = connection.queued
            for i in range(1000):
                connection.send(b"%09d" % i)
            assert connection.queued == before + 10_000
            await read_lines(peer, count)
            received = b""
            while len(received) < 10_000:
                received += await peer.read()
            assert received == b"".join(b"%09d\n" % i for i in range(1000))
            assert connection.queued == 0

    async def test_it_has_a_limit(self) -> None:
        limits = Limits(max_queued_output=100_000)
        async with stalled(limits) as (peer, _, connection, count):
            count += fill(connection)
            assert 100_000 <= connection.queued < 110_000
            with pytest.raises(OutputQueueFull) as raised:
                connection.send(LINE)
            assert str(raised.value).endswith("which does not read; max_queued_output is 100000")
            # Nothing else has happened: what was queued arrives, and more can be sent.
            await read_lines(peer, count)
            await connection.drain()
            connection.send(b"more")
            assert await peer.read() == b"more\n"

    async def test_its_limit_holds_while_the_peer_reads_a_little(self) -> None:
        """What waits counts until the system has it, which takes little at a time."""
        limits = Limits(max_queued_output=30_000_000)
        async with stalled(limits) as (peer, reactor, connection, count):
            count += fill(connection)
            was_read = 0
            while connection.queued >= 30_000_000:
                was_read += len(await peer.read())
            count += fill(connection)
            assert connection.queued >= 30_000_000
            # The rest is in the system's buffers and the transport's.
            assert count * (len(LINE) + 1) - was_read - connection.queued < 15_000_000
            assert "writable" not in reactor.events

    async def test_a_large_message_counts_too(self) -> None:
        limits = Limits(max_queued_output=1_000_000)
        async with stalled(limits) as (_, _, connection, _):
            connection.write(b"x" * 1_000_000)
            with pytest.raises(OutputQueueFull):
                connection.write(b"x")

    async def test_what_never_left_is_told_at_the_end(self) -> None:
        unsent: list[bytes] = []

        class Keeps(Recorder):
            def on_close(self, cause: Exception | None) -> None:
                super().on_close(cause)
                unsent.extend(self.connection.unsent())

        async with stalled(reactor=Keeps) as (_, reactor, connection, _):
            for i in range(10):
                connection.send(b"%d" % i)
            connection.abort(RuntimeError("enough"))
            await reactor.closed()
            assert unsent[-10:] == [b"%d\n" % i for i in range(10)]


class TestAPeerThatOnlySends:
    class Echo(Recorder):
        total = 0

        def on_messages(self, messages: list[Any]) -> None:
            self.total += len(messages)
            for message in messages:
                self.connection.send(message)

    async def test_a_server_stops_reading_from_it(self) -> None:
        async with listening(reactor=self.Echo) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                peer.socket.setblocking(False)
                data = (LINE + b"\n") * 100
                sent = 0
                quiet = 0
                # It sends all it can. When nothing moves for long, both directions are full.
                while quiet < 2000:
                    quiet += 1
                    with contextlib.suppress(BlockingIOError):
                        sent += peer.socket.send(data[sent % (len(LINE) + 1) :])
                        quiet = 0
                    await asyncio.sleep(0)
                echo = reactors[0]
                assert isinstance(echo, self.Echo)
                connection = echo.connection
                assert not connection.writable
                # What this process holds: the answers to one read, which is at most 256 KiB.
                assert connection.queued < 300_000
                before = echo.total
                for _ in range(100):
                    await asyncio.sleep(0)
                assert echo.total == before
                # As soon as it reads, everything flows again.
                whole_lines = sent // (len(LINE) + 1)
                await read_lines(peer, whole_lines)
                assert echo.total == whole_lines
            await echo.closed()

    async def test_a_client_goes_on_reading(self) -> None:
        """If both sides stopped, each could wait for the other for ever."""
        async with connected(server=self.Echo, client_limits=Limits()) as (client, _):
            for _ in range(3000):
                client.connection.send(LINE)  # all at once, without a look at what comes back
            assert not client.connection.writable
            await client.received(3000)


async def test_one_slow_peer_stops_nobody_else() -> None:
    async with listening(reactor=TestAPeerThatOnlySends.Echo) as (server, reactors):
        with (
            await RawPeer.connect(server.target) as slow,
            await RawPeer.connect(server.target) as peer,
        ):
            await wait_until(lambda: len(reactors) == 2 and all(r.events for r in reactors))
            for reactor in reactors:
                if reactor.connection.get_extra_info("peername") == slow.socket.getsockname():
                    while reactor.connection.writable:
                        reactor.connection.send(LINE)
            await peer.send(b"question\n")
            assert await peer.read() == b"question\n"


async def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match=r"Limits\.max_buffer must be at least 1, not 0"):
        Limits(max_buffer=0)
    with pytest.raises(ValueError, match=r"Limits\.max_queued_output must be at least 1, not -5"):
        Limits(max_queued_output=-5)


async def test_a_message_larger_than_every_buffer(certificates: Certificates, tls: bool) -> None:
    limits = Limits(max_buffer=1 << 27)
    async with connected(
        codec=lambda: ProtobufCodec(BytesValue, max_message_size=1 << 27),
        server=TestAPeerThatOnlySends.Echo,
        limits=limits,
        client_limits=limits,
        certificates=certificates if tls else None,
    ) as (client, _):
        message = BytesValue(value=bytes(16 * 1024 * 1024))
        client.connection.send(message)
        assert await client.received(1) == [message]
