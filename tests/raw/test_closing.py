"""Closing a connection, from either side, or in one direction only."""

from __future__ import annotations

from typing import Any

import pytest
from raw.reactors import Echo
from support import Certificates, RawPeer, connected, listening, wait_until

from protosocket_rpc.errors import (
    ConnectionClosed,
)
from protosocket_rpc.raw.codecs import ByteLineCodec


class TestClosing:
    async def test_what_is_queued_is_sent(self, certificates: Certificates, tls: bool) -> None:
        async with connected(
            codec=lambda: ByteLineCodec(max_line_size=1 << 20),
            certificates=certificates if tls else None,
        ) as (client, server):
            messages = [b"small", b"x" * 100_000, b"small"] * 100
            for message in messages:
                client.connection.send(message)
            client.connection.close()
            assert await server.received(300) == messages
            assert await server.closed() is None

    async def test_what_is_queued_for_a_slow_peer_is_sent(self) -> None:
        async with listening() as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await wait_until(lambda: reactors and reactors[0].events)
                connection = reactors[0].connection
                count = 0
                while connection.queued < 1_000_000:
                    connection.send(b"x" * 9999)
                    count += 1
                connection.close()
                assert connection.queued == 0
                assert len(await peer.read_all()) == count * 10_000
            assert await reactors[0].closed() is None

    async def test_nothing_can_be_sent_afterwards(self) -> None:
        async with connected() as (client, _):
            connection = client.connection
            connection.close()
            connection.close()
            assert connection.closing
            assert not connection.writable
            with pytest.raises(ConnectionClosed) as raised:
                connection.send(b"message")
            assert raised.value.__cause__ is None
            with pytest.raises(ConnectionClosed):
                await connection.drain()
            connection.flush()
            connection.pause_reading()
            connection.resume_reading()
            connection.request_writable()
            await connection.wait_closed()
            await connection.wait_closed()
            assert client.events == ["open", "close"]
            connection.pause_reading()
            connection.resume_reading()
            connection.request_writable()
            connection.flush()
            connection.abort(RuntimeError())
            assert "closed" in repr(connection)

    async def test_the_error_of_sending_has_the_cause(self) -> None:
        cause = RuntimeError("enough")
        async with connected() as (client, _):
            client.connection.abort(cause)
            with pytest.raises(ConnectionClosed) as raised:
                client.connection.send(b"message")
            assert raised.value.__cause__ is cause

    async def test_sending_on_after_closing_does_not_undo_the_farewell(self) -> None:
        class Quits(Echo):
            def on_message(self, message: Any) -> None:
                super().on_message(message)
                if message == b"quit":
                    self.connection.close()

        async with listening(reactor=Quits) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"1\nquit\n2\n3\n")
                assert await peer.read_all() == b"1\nquit\n"
            assert await reactors[0].closed() is None

    async def test_a_defect_after_closing_is_not_hidden(self) -> None:
        class Quits(Echo):
            def on_message(self, message: Any) -> None:
                super().on_message(message)
                self.connection.close()
                raise KeyError("a defect")

        async with listening(reactor=Quits) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"1\n")
                assert await peer.read_all() == b"1\n"
            assert isinstance(await reactors[0].closed(), KeyError)
            assert reactors[0].failures == []

    async def test_nothing_is_received_afterwards(
        self, certificates: Certificates, tls: bool
    ) -> None:
        async with connected(certificates=certificates if tls else None) as (client, server):
            for _ in range(100):
                server.connection.send(b"message")
            client.connection.close()
            await client.closed()
            await server.closed()
            assert "message" not in client.events


class TestHalfClosing:
    class Stays(Echo):
        def on_eof(self) -> bool:
            super().on_eof()
            return True

    async def test_a_peer_that_has_ended_still_gets_its_answers(self) -> None:
        async with listening(reactor=self.Stays) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"question\n")
                peer.end()
                assert await peer.read() == b"question\n"
                await reactors[0].until(lambda: "eof" in reactors[0].events)
                reactors[0].connection.send(b"and more")
                assert await peer.read() == b"and more\n"
                reactors[0].connection.close()
                assert await peer.read() == b""
            assert await reactors[0].closed() is None

    async def test_the_end_is_told_once(self) -> None:
        async with listening(reactor=self.Stays) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                peer.end()
                await wait_until(lambda: reactors and "eof" in reactors[0].events)
                connection = reactors[0].connection
                connection.pause_reading()
                connection.resume_reading()
                while connection.writable:  # which pauses and resumes on its own
                    connection.send(b"x" * 10_000)
                while not connection.writable:
                    assert await peer.read()
                connection.close()
                await peer.read_all()
            assert await reactors[0].closed() is None
            assert reactors[0].events.count("eof") == 1

    async def test_what_was_queued_is_sent_to_a_peer_that_has_ended(self) -> None:
        async with listening() as (server, reactors):  # whose on_eof says False
            with await RawPeer.connect(server.target) as peer:
                await wait_until(lambda: reactors and reactors[0].events)
                connection = reactors[0].connection
                count = 0
                while connection.queued < 1_000_000:
                    connection.send(b"x" * 9999)
                    count += 1
                # A server does not read from a peer that does not read: its end comes later.
                peer.end()
                assert len(await peer.read_all()) == count * 10_000
            assert await reactors[0].closed() is None
            assert "eof" in reactors[0].events

    async def test_tls_cannot_and_says_nothing(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with connected(server=self.Stays, certificates=certificates) as (client, server):
            client.connection.close()
            assert await server.closed() is None
        assert [record.message for record in caplog.records if record.name == "asyncio"] == []
