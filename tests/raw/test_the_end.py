"""Every way in which a connection can end; on_close tells it once, last, with the cause."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from raw.reactors import Echo, Raises
from support import Certificates, RawPeer, Recorder, connected, listening, wait_until

from protosocket_rpc.errors import (
    ConnectionClosed,
    DecodeError,
    FrameTooLarge,
)
from protosocket_rpc.raw import Connection, Limits, Reactor, connect
from protosocket_rpc.raw.codecs import ByteLineCodec, LineCodec


class TestTheEnd:
    """on_close is called exactly once, last, with the cause."""

    @pytest.fixture(autouse=True)
    def _once_and_last(self) -> Any:
        everybody: list[Recorder] = []
        original = Recorder.__init__

        def init(recorder: Recorder) -> None:
            original(recorder)
            everybody.append(recorder)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recorder, "__init__", init)
            yield
        for recorder in everybody:
            assert recorder.events.count("open") == 1
            assert recorder.events.count("close") == 1
            assert recorder.events[-1] == "close"

    async def test_closed_by_the_client(self, certificates: Certificates, tls: bool) -> None:
        async with connected(certificates=certificates if tls else None) as (client, server):
            client.connection.close()
            assert await client.closed() is None
            assert await server.closed() is None
            # Python 3.10 takes the end of TLS for the end, without asking.
            assert [event for event in server.events if event != "eof"] == ["open", "close"]

    async def test_closed_by_the_server(self, certificates: Certificates, tls: bool) -> None:
        async with connected(certificates=certificates if tls else None) as (client, server):
            server.connection.close()
            assert await client.closed() is None
            assert await server.closed() is None
            assert [event for event in client.events if event != "eof"] == ["open", "close"]

    async def test_closed_by_both(self) -> None:
        async with connected() as (client, server):
            client.connection.close()
            server.connection.close()
            assert await client.closed() is None
            assert await server.closed() is None

    async def test_aborted(self, certificates: Certificates, tls: bool) -> None:
        cause = RuntimeError("enough")
        async with connected(certificates=certificates if tls else None) as (client, server):
            client.connection.abort(cause)
            client.connection.abort(RuntimeError("the first cause counts"))
            assert await client.closed() is cause
            await server.closed()
            assert client.connection.failure is cause
            client.connection.abort(RuntimeError("not after the end either"))
            assert client.connection.failure is cause
            assert "closed" in repr(client.connection)

    async def test_aborted_by_the_reactor_as_it_opens(self) -> None:
        class Refuses(Recorder):
            def on_open(self, connection: Connection[Any, Any]) -> None:
                super().on_open(connection)
                connection.abort(PermissionError("no"))

        async with connected(server=Refuses) as (client, server):
            assert isinstance(await server.closed(), PermissionError)
            await client.closed()

    async def test_reset_by_the_peer(self) -> None:
        async with listening() as (server, reactors):
            peer = await RawPeer.connect(server.target)
            await wait_until(lambda: reactors and reactors[0].events)
            peer.reset()
            assert isinstance(await reactors[0].closed(), ConnectionResetError)

    async def test_reset_while_much_is_sent_prints_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with listening() as (server, reactors):
            peer = await RawPeer.connect(server.target)
            await wait_until(lambda: reactors and reactors[0].events)
            peer.reset()
            for _ in range(100):
                reactors[0].connection.send(b"x" * 1000)
            assert isinstance(await reactors[0].closed(), ConnectionError)
        assert [record for record in caplog.records if record.name == "asyncio"] == []

    async def test_the_peer_closes_in_the_middle_of_a_message(self) -> None:
        async with listening() as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"whole\nhalf")
                await wait_until(lambda: reactors and reactors[0].messages)
            cause = await reactors[0].closed()
            assert isinstance(cause, ConnectionClosed)
            assert str(cause) == "the peer closed in the middle of a message"
            assert reactors[0].events == ["open", "message", "failure", "close"]

    async def test_the_peer_closes_in_the_middle_of_what_is_skipped(self) -> None:
        async with listening(codec=Skips) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"\xff123")
                await wait_until(lambda: reactors and reactors[0].messages)
            cause = await reactors[0].closed()
            assert str(cause) == "the peer closed in the middle of a message"

    async def test_tls_ends_without_its_farewell_in_the_middle_of_a_message(
        self, certificates: Certificates
    ) -> None:
        async with connected(certificates=certificates) as (client, server):
            client.connection.send(b"whole")
            client.connection.write(b"half")
            await server.received(1)
            with client.connection.get_extra_info("socket").dup() as sock:
                sock.shutdown(socket.SHUT_WR)
            cause = await server.closed()
            assert str(cause) == "the peer closed in the middle of a message"
            await client.closed()

    async def test_the_peer_sends_what_cannot_be_decoded(self) -> None:
        async with listening(codec=LineCodec, reactor=Echo) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"good\n\xff\nnever seen\n")
                assert await peer.read_all() == b"good\n"
            cause = await reactors[0].closed()
            assert isinstance(cause, DecodeError)
            assert reactors[0].failures == [cause]
            assert reactors[0].events == ["open", "message", "failure", "close"]

    async def test_the_peer_sends_more_than_the_limit(self) -> None:
        limits = Limits(max_buffer=1000)
        async with listening(codec=Announced, limits=limits) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(struct.pack(">I", 1001))
                assert await peer.read_all() == b""
            cause = await reactors[0].closed()
            assert isinstance(cause, FrameTooLarge)
            assert str(cause) == "the peer sends a message of 1001 bytes; Limits.max_buffer is 1000"

    async def test_a_message_of_exactly_the_limit_is_accepted(self) -> None:
        limits = Limits(max_buffer=1000)
        async with listening(codec=Announced, limits=limits) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(struct.pack(">I", 1000))
                await peer.send(b"x" * 996)
                await wait_until(lambda: reactors and reactors[0].messages)
            assert await reactors[0].closed() is None

    async def test_the_limit_holds_for_a_codec_that_knows_no_length(self) -> None:
        limits = Limits(max_buffer=1000)
        async with listening(limits=limits) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"x" * 1001)
                await peer.read_all()
            assert isinstance(await reactors[0].closed(), FrameTooLarge)

    async def test_last_words_are_sent(self) -> None:
        class Polite(Recorder):
            def on_failure(self, error: Exception) -> None:
                super().on_failure(error)
                self.connection.send(b"because " + str(error).encode())

        async with listening(codec=lambda: ByteLineCodec(max_line_size=5), reactor=Polite) as (
            server,
            reactors,
        ):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"12345")
                answer = await peer.read_all()
            assert answer.startswith(b"because the peer sends a longer line")
            assert isinstance(await reactors[0].closed(), FrameTooLarge)

    async def test_last_words_do_not_wait_for_a_peer_that_does_not_read(self) -> None:
        class Verbose(Recorder):
            def on_failure(self, error: Exception) -> None:
                super().on_failure(error)
                self.connection.write(b"x" * 50_000_000)

        async with listening(codec=LineCodec, reactor=Verbose) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"\xff\n")
                await wait_until(lambda: reactors and reactors[0].causes)
            assert isinstance(await reactors[0].closed(), DecodeError)

    @pytest.mark.parametrize("method", ["on_open", "on_message", "on_messages", "on_eof"])
    async def test_a_reactor_raises(self, method: str) -> None:
        error = KeyError("a defect")
        async with listening(reactor=lambda: Raises(method, error)) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"message\n")
                peer.end()
                assert await peer.read_all() == b""
            assert await reactors[0].closed() is error
            assert reactors[0].failures == [error]

    async def test_a_reactor_raises_when_it_may_write_again(self) -> None:
        error = KeyError("a defect")
        async with connected(server=lambda: Raises("on_writable", error)) as (client, server):
            server.connection.request_writable()
            assert await server.closed() is error
            await client.closed()

    async def test_a_reactor_raises_in_its_last_words(
        self, loop_errors: list[dict[str, Any]]
    ) -> None:
        error = KeyError("a defect")
        async with listening(codec=LineCodec, reactor=lambda: Raises("on_failure", error)) as (
            server,
            reactors,
        ):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"\xff\n")
                assert await peer.read_all() == b""
            assert isinstance(await reactors[0].closed(), DecodeError)
        (context,) = loop_errors
        assert context["exception"] is error
        loop_errors.clear()

    async def test_a_reactor_raises_at_the_end(self, loop_errors: list[dict[str, Any]]) -> None:
        error = KeyError("a defect")
        async with connected(client=lambda: Raises("on_close", error)) as (client, _):
            client.connection.close()
            await client.connection.wait_closed()
        (context,) = loop_errors
        assert context["exception"] is error
        loop_errors.clear()

    async def test_a_cancelled_error_is_an_error_like_any_other(self) -> None:
        async with connected(server=lambda: Raises("on_message", asyncio.CancelledError())) as (
            client,
            server,
        ):
            client.connection.send(b"message")
            cause = await server.closed()
            assert isinstance(cause, ConnectionClosed)
            assert isinstance(cause.__cause__, asyncio.CancelledError)
            await client.closed()

    async def test_reading_is_resumed_while_the_end_is_on_its_way(
        self, certificates: Certificates, tls: bool
    ) -> None:
        """Python 3.10's TLS has no transport any more, one turn before it says so."""
        async with connected(certificates=certificates if tls else None) as (client, server):
            server.connection.pause_reading()
            client.connection.send(b"never read: so the end is a reset")
            client.connection.flush()
            server.connection.abort(RuntimeError("enough"))
            while not client.connection.closing:
                client.connection.resume_reading()
                await asyncio.sleep(0)
            await client.closed()
            await server.closed()

    @pytest.mark.parametrize("part", [b"half of", b"x" * 100_000], ids=["small", "large"])
    async def test_a_codec_that_keeps_what_is_unfinished(self, part: bytes) -> None:
        """Whatever its attribute is, only the truth of that counts."""

        class Collecting(ByteLineCodec):
            def __init__(self) -> None:
                super().__init__()
                self.unfinished: list[bytes] = []

            def decode(self, data: bytes, messages: list[bytes]) -> int:
                self.unfinished.append(data)
                return len(data)

        async with listening(codec=Collecting) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await wait_until(lambda: reactors and reactors[0].events)
                reactors[0].connection.pause_reading()  # so that it comes in one piece
                await peer.send(part)
                reactors[0].connection.resume_reading()
                peer.end()
                assert await peer.read_all() == b""
            cause = await reactors[0].closed()
            assert isinstance(cause, ConnectionClosed)
            assert str(cause) == "the peer closed in the middle of a message"

    async def test_a_codec_with_a_defect(self) -> None:
        class Defective(ByteLineCodec):
            def decode(self, data: bytes, messages: list[bytes]) -> int:
                raise KeyError("a defect")

        async with listening(codec=Defective) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"message\n")
                assert await peer.read_all() == b""
            assert isinstance(await reactors[0].closed(), KeyError)

    async def test_answers_before_a_defect_are_sent(self) -> None:
        class Breaks(Echo):
            def on_message(self, message: Any) -> None:
                super().on_message(message)
                if message == b"3":
                    raise KeyError("a defect")

        async with listening(reactor=Breaks) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"1\n2\n3\n4\n")
                assert await peer.read_all() == b"1\n2\n3\n"
            assert isinstance(await reactors[0].closed(), KeyError)

    async def test_other_connections_go_on(self) -> None:
        async with listening(codec=LineCodec, reactor=Echo) as (server, reactors):
            client = Recorder()
            connection = await connect(server.target, LineCodec(), client)
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"\xff\n")
                assert await peer.read_all() == b""
            connection.send("still there")
            assert await client.received(1) == ["still there"]
            connection.close()
            await connection.wait_closed()
            assert len(reactors) == 2


@pytest.mark.parametrize(
    "end",
    [
        lambda client, peer: client.close(),
        lambda client, peer: peer.close(),
        lambda client, peer: peer.write(b"\xff\n"),
        lambda client, peer: peer.write(b"x" * 70_000),
    ],
    ids=["close", "closed", "broken", "oversized"],
)
async def test_what_has_ended_is_freed_without_the_collector(
    end: Callable[[Connection[Any, Any], Connection[Any, Any]], None],
) -> None:
    class Codec(LineCodec):
        """One to which there can be a weak reference; only the connection has another."""

    class Plain(Reactor[str, str]):
        def on_open(self, connection: Connection[str, str]) -> None:
            self.connection = connection

    async with listening(codec=LineCodec) as (server, reactors):
        reactor = Plain()
        codec = Codec()
        connection = await connect(server.target, codec, reactor)
        connection.send("message")
        await wait_until(lambda: reactors and reactors[0].messages)
        end(connection, reactors[0].connection)
        await connection.wait_closed()
        alive = [weakref.ref(codec), weakref.ref(reactor)]
        gc.disable()
        try:
            del connection, reactor, codec
            await asyncio.sleep(0)  # the transport lets go
            assert [ref() for ref in alive] == [None, None]
        finally:
            gc.enable()


class Announced:
    """Messages behind their total length: four bytes."""

    def __init__(self) -> None:
        self._needed = 0

    def decode(self, data: bytes, messages: list[bytes]) -> int:
        pos = 0
        while pos < len(data):
            self._needed = 4
            if len(data) - pos < 4:
                return pos
            self._needed = int.from_bytes(data[pos : pos + 4], "big")
            if len(data) - pos < self._needed:
                return pos
            messages.append(data[pos + 4 : pos + self._needed])
            pos += self._needed
        return pos

    def needed(self) -> int:
        return self._needed

    def encode(self, message: bytes) -> bytes:
        return (len(message) + 4).to_bytes(4, "big") + message


class Skips:
    """Each first byte says how many to skip behind it."""

    def decode(self, data: bytes, messages: list[int]) -> int:
        pos = 0
        while pos < len(data):
            messages.append(data[pos])
            pos += 1 + data[pos]
        return pos

    def needed(self) -> int:
        return 0

    def encode(self, message: bytes) -> bytes:
        return message


async def test_parts_are_refused_from_the_turn_in_which_the_connection_is_lost(
    certificates: Certificates, tls: bool
) -> None:
    async def write_on(connection: Connection[Any, Any]) -> None:
        while True:
            connection.write_parts([b"x\n"])
            await asyncio.sleep(0)

    async with connected(certificates=certificates if tls else None) as (client, server):
        sock = server.connection.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.connection.abort(ConnectionClosed("a test"))
        with pytest.raises(ConnectionClosed):
            await write_on(client.connection)
        await client.closed()
