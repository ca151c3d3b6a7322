"""What a peer should not do, over a real socket: one connection or one call, a log line, no more.

Each test runs beside another client, whose stream goes on all the time: it must not notice.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from connectivity.peers import listening
from service.pair import KINDS, TCP, failure, paired
from service.raw_peer import RawPeer
from service.sansio import CANCEL, END, SETTINGS, F
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.raw.varint import encode_varint
from protosocket_rpc.service.limits import MAX_METHOD_LENGTH
from protosocket_rpc.wire.frame import encode_frame

LIMITS = ps.RpcLimits(max_receive_message_size=100_000, stream_window=10_000)


class Beside:
    """The server, another client of it, and the log. Used as ``async with beside``."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.stack = AsyncExitStack()
        self.count = 0
        self.going = True

    async def __aenter__(self) -> None:
        self.pair = await self.stack.enter_async_context(paired(TCP, server={"limits": LIMITS}))
        self.port = int(self.pair.target.rpartition(":")[2])
        self.conversation = asyncio.ensure_future(self.converse(self.pair.both()))
        await wait_until(lambda: self.count)

    async def __aexit__(self, *exc_info: Any) -> None:
        before = self.count
        try:
            if exc_info[0] is None:
                await wait_until(lambda: self.count > before + 3 or self.conversation.done())
            self.going = False
            await self.conversation
            assert await self.pair.unary(b"fine") == b"fine"
        finally:
            await self.stack.aclose()

    async def converse(self, talk: Any) -> None:
        while self.going:
            body = b"%d" % self.count
            await talk.write(body)
            assert await talk.read() == body
            self.count += 1
        await talk.done_writing()
        assert await talk.read() is ps.EOF

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[RawPeer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield RawPeer(reader, writer)
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def logged(self, text: str, level: int) -> None:
        await wait_until(
            lambda: any(
                text in record.getMessage() and record.levelno == level
                for record in self.caplog.records
            )
        )


@pytest.fixture
def beside(caplog: pytest.LogCaptureFixture) -> Beside:
    caplog.set_level(logging.INFO, "protosocket_rpc")
    return Beside(caplog)


# -- bytes that are no frames --------------------------------------------------------------

METHOD_THAT_IS_NO_TEXT = bytes.fromhex("08 01 1a 03 2f ff 2f 22 00")

BROKEN = {
    "an HTTP request": (b"GET / HTTP/1.1\r\nHost: example.org\r\n" * 9, "frame"),
    "a length that never ends": (b"\xff" * 20, "varint"),
    "a length beyond 64 bits": (b"\xff" * 9 + b"\x7f", "varint"),
    "a length of 2 GiB": (encode_varint(1 << 31) + b"\x08\x01", "no frame can be 2147483648 bytes"),
    "a length of 8 EiB": (encode_varint(1 << 63), "no frame can be"),
    "a wire type that is none": (b"\x02\x0f\x00", "wire type"),
    "a field number 0": (b"\x02\x00\x01", "number 0"),
    "fields without end": (encode_varint(80_000) + b"\x32\x00" * 40_000, "more than 32768 fields"),
    "a body beyond its frame": (b"\x05\x08\x01\x22\x7fx", "beyond its end"),
    "half a field": (b"\x01\x08", "middle of a field"),
    "a method that is not UTF-8": (
        encode_varint(len(METHOD_THAT_IS_NO_TEXT)) + METHOD_THAT_IS_NO_TEXT,
        "not UTF-8",
    ),
    "a large frame without an id": (
        encode_varint(200_000) + b"\x22" + bytes(40),
        "for the connection itself",
    ),
    "a frame for no RPC": (F(0, body=b"x", method="/test.Service/Unary").encode(), "without an id"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_broken_bytes_end_the_connection_with_a_reason(
    beside: Beside, data: tuple[bytes, str], in_pieces: bool
) -> None:
    async with beside:
        broken, why = data
        async with beside.peer() as peer:
            # One call before it is answered; another is in flight, and ends with the connection.
            peer.sends(
                F(5, method="/test.Service/Unary", body=b"x"), F(6, method="/test.Service/Both")
            )
            assert await peer.hears() == F(5, body=b"x")
            if in_pieces:
                size = 1 + len(broken) // 1000
                for start in range(0, len(broken), size):
                    if not peer.writer.is_closing():
                        peer.writer.write(broken[start : start + size])
                        await asyncio.sleep(0)
            else:
                peer.writer.write(broken)
            await peer.hears_the_end()
            if not in_pieces:  # else what comes behind resets the connection, and its last words
                assert peer.farewell is not None
                last_id, reason = peer.farewell
                assert last_id == 6
                assert reason.startswith("protocol error: ")
                assert why in reason
        await beside.logged(f"closing the connection from ipv4:127.0.0.1:{peer.port}: ", 30)


async def test_garbage_of_any_kind(beside: Beside) -> None:
    """It may be read as anything, but nothing of it may do harm."""
    async with beside:
        rng = random.Random(7)
        for _ in range(50):
            async with beside.peer() as peer:
                peer.writer.write(rng.randbytes(rng.choice([1, 10, 100, 10_000])))
                if rng.random() < 0.5:
                    peer.writer.write_eof()
                    await peer.read_all()
                elif rng.random() < 0.5:
                    peer.reset()


async def test_frames_with_a_bit_turned(beside: Beside) -> None:
    async with beside:
        rng = random.Random(8)
        frames = [
            F(1, method="/test.Service/Unary", body=b"x", timeout_us=1000, metadata=(("k", b"v"),)),
            F(2, method="/test.Service/Both", credit=100),
            F(2, body=b"y", more=True),
            F(2, END),
            SETTINGS,
        ]
        whole = b"".join(frame.encode() for frame in frames)
        for _ in range(100):
            data = bytearray(whole)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            async with beside.peer() as peer:
                peer.writer.write(bytes(data))
                peer.writer.write_eof()
                await peer.read_all()


async def test_what_came_before_the_broken_bytes_is_answered(beside: Beside) -> None:
    async with beside, beside.peer() as peer:
        call = F(1, method="/test.Service/Unary", body=b"x").encode()
        peer.writer.write(call + b"\x02\x0f\x00")
        assert await peer.hears() == F(1, body=b"x")
        await peer.hears_the_end()


async def test_the_same_id_twice(beside: Beside) -> None:
    async with beside:
        async with beside.peer() as peer:
            peer.sends(F(7, method="/test.Service/Both"), F(7, method="/test.Service/Both"))
            await peer.hears_the_end()
            assert peer.farewell == (
                7,
                "protocol error: the peer opened RPC 7 while it was in flight",
            )
        await beside.logged("opened RPC 7 while it was in flight", logging.WARNING)


# -- frames that are too large -------------------------------------------------------------


@pytest.mark.parametrize("size", [150_000, 5_000_000, 100_000_000])
async def test_a_frame_above_the_limit_is_skipped_and_its_rpc_answered(
    beside: Beside, size: int
) -> None:
    async with beside:
        async with beside.peer() as peer:
            head = b"\x08\x09\x1a\x13/test.Service/Unary\x22" + encode_varint(size)
            peer.writer.write(encode_varint(len(head) + size) + head + bytes(50))
            status = await peer.hears()
            assert status.id == 9
            assert status.status is not None
            assert status.status[0] == 8
            assert "100000" in status.status[1]
            assert await peer.hears() == F(9, END)
            if size < 10_000_000:
                left = size - 50
                while left:
                    piece = min(left, 50_000)
                    left -= piece
                    peer.writer.write(bytes(piece))
                    await peer.writer.drain()
                peer.sends(F(10, method="/test.Service/Unary", body=b"next"))
                assert await peer.hears() == F(10, body=b"next")
        await beside.logged("Received message larger than max", logging.INFO)


async def test_a_frame_above_the_limit_of_an_rpc_in_flight(beside: Beside) -> None:
    async with beside:
        async with beside.peer() as peer:
            peer.sends(F(1, method="/test.Service/Requests"), F(1, body=bytes(200_000)))
            status = await peer.hears()
            assert status.status is not None
            assert (status.id, status.status[0]) == (1, 8)
            peer.sends(F(2, method="/test.Service/Unary", body=b"next"))
            assert await peer.hears() == F(2, body=b"next")
        await beside.logged("/test.Service/Requests: rejected, from", logging.INFO)


async def test_fragments_that_never_end(beside: Beside) -> None:
    async with beside:
        async with beside.peer() as peer:
            peer.sends(F(1, method="/test.Service/Unary", body=b"", more=True))
            peer.sends(*[F(1, body=bytes(30_000), more=True)] * 4)
            status = await peer.hears()
            assert status.status is not None
            assert (status.id, status.status[0]) == (1, 8)
            peer.sends(F(1, body=b"more", more=True))
            assert await peer.hears() == F(1, CANCEL)
            peer.sends(F(2, method="/test.Service/Unary", body=b"next"))
            assert await peer.hears() == F(2, body=b"next")
        await beside.logged("/test.Service/Unary: rejected, from", logging.INFO)


# -- frames that make no sense -------------------------------------------------------------


@pytest.mark.parametrize("method", ["/test.Service/Missing", "x", "/", "\n", "/test.Service/unary"])
async def test_a_method_that_is_not_there(beside: Beside, method: str) -> None:
    async with beside:
        async with beside.peer() as peer:
            peer.sends(F(1, method=method, body=b"x"))
            assert await peer.hears() == F(1, status=(12, "Method not found!"))
            assert await peer.hears() == F(1, END)
            peer.sends(F(2, method="/test.Service/Unary", body=b"next"))
            assert await peer.hears() == F(2, body=b"next")
        await beside.logged(f"there is no method {method!r}", logging.INFO)


async def test_a_method_with_an_endless_name(beside: Beside) -> None:
    async with beside:
        async with beside.peer() as peer:
            for id, length in ((1, MAX_METHOD_LENGTH), (2, MAX_METHOD_LENGTH + 1), (3, 100_000)):
                peer.sends(F(id, method="m" * length, body=b"x"))
                assert await peer.hears() == F(id, status=(12, "Method not found!"))
                assert await peer.hears() == F(id, END)
        for text in ("m'", "m...'"):
            await beside.logged(f"there is no method '{'m' * (MAX_METHOD_LENGTH - 1)}{text}", 20)
        assert max(len(record.getMessage()) for record in beside.caplog.records) < 2000


async def test_late_frames_are_harmless(beside: Beside) -> None:
    async with beside, beside.peer() as peer:
        peer.sends(F(1, method="/test.Service/Unary", body=b"x"))
        assert await peer.hears() == F(1, body=b"x")
        peer.sends(F(1, END), F(1, CANCEL), F(99, END), F(98, CANCEL))
        peer.sends(F(1, body=b"late"), F(97, credit=5))
        assert await peer.hears() == F(1, CANCEL)
        assert await peer.hears() == F(97, CANCEL)
        # The id may be used again: for the server, it never was.
        peer.sends(F(1, method="/test.Service/Unary", body=b"again"))
        assert await peer.hears() == F(1, body=b"again")


@pytest.mark.parametrize("code", [3, 17, 1 << 20])
async def test_an_unknown_code_is_a_cancel(beside: Beside, code: int) -> None:
    async with beside, beside.peer() as peer:
        peer.sends(F(1, method="/test.Service/Both"), F(1, code))
        assert await peer.hears() == F(1, CANCEL)
        peer.sends(F(2, code, method="/test.Service/Unary", body=b"x"))  # opens nothing
        peer.sends(F(3, method="/test.Service/Unary", body=b"next"))
        assert await peer.hears() == F(3, body=b"next")


async def test_fields_of_the_future_are_ignored(beside: Beside) -> None:
    async with beside:
        future = bytes.fromhex(
            "a0 06 05"  # field 100, a varint
            "a2 06 03 61 62 63"  # field 100, bytes
            "a1 06 01 02 03 04 05 06 07 08"  # field 100, 64 bits
            "a5 06 01 02 03 04"  # field 100, 32 bits
        )
        async with beside.peer() as peer:
            peer.writer.write(encode_frame(0, END, future))
            method = F(1, method="/test.Service/Unary", body=b"x").encode()[1:]
            peer.writer.write(encode_varint(len(method) + len(future)) + method + future)
            assert await peer.hears() == F(1, body=b"x")


async def test_requests_that_are_not_due(beside: Beside) -> None:
    async with beside:
        async with beside.peer() as peer:
            peer.sends(F(1, method="/test.Service/Unary"))  # without one
            status = await peer.hears()
            assert status.status is not None
            assert (status.id, status.status[0]) == (1, 12)
            peer.sends(F(2, method="/test.Service/Both"), F(2, END), F(2, body=b"after the end"))
            assert (await peer.hears()).id == 2
        await beside.logged("called as another kind", logging.INFO)


async def test_rpcs_that_are_opened_and_never_ended(beside: Beside) -> None:
    async with beside:
        async with beside.peer() as peer:
            peer.sends(*[F(id, method="/test.Service/Both") for id in range(1, 501)])
            peer.sends(
                *[F(id, method="/test.Service/Requests") for id in range(501, 1001)],
                *[F(id, body=b"") for id in range(501, 1001)],
            )
            peer.sends(F(1001, method="/test.Service/Unary", body=b"x"))
            assert await peer.hears() == F(1001, body=b"x")
            running = beside.pair.server._running
            assert len(running.tasks) == 1001  # and one of the client beside
        await wait_until(lambda: len(running.tasks) == 1)


# -- peers that are slow, silent, or gone --------------------------------------------------


async def test_a_peer_that_says_nothing(beside: Beside) -> None:
    async with beside, beside.peer() as peer:
        await peer.read()  # the server's settings
        for _ in range(10):
            assert await beside.pair.unary(b"x") == b"x"
        assert not peer.reader.at_eof()


async def test_a_peer_that_sends_a_byte_at_a_time(beside: Beside) -> None:
    async with beside, beside.peer() as peer:
        frames = [F(1, method="/test.Service/Unary", body=b"slow"), SETTINGS]
        for byte in b"".join(frame.encode() for frame in frames):
            peer.writer.write(bytes((byte,)))
            await peer.writer.drain()
            assert await beside.pair.unary(b"fast") == b"fast"
        assert await peer.hears() == F(1, body=b"slow")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_peer_that_vanishes_in_the_middle_of_a_frame(beside: Beside, how: str) -> None:
    async with beside:
        async with beside.peer() as peer:
            call = F(1, method="/test.Service/Both").encode()
            peer.writer.write(call + F(1, body=bytes(1000)).encode()[:500])
            running = beside.pair.server._running
            await wait_until(lambda: len(running.tasks) == 2)
            if how == "reset":
                peer.reset()
            else:
                peer.writer.close()
            await wait_until(lambda: len(running.tasks) == 1)
        await beside.logged(f"the connection from ipv4:127.0.0.1:{peer.port} ended: ", logging.INFO)
        if how == "close":
            await beside.logged("closed in the middle of a message", logging.INFO)


async def test_a_peer_that_never_reads(caplog: pytest.LogCaptureFixture) -> None:
    """It opens streams without end, calls without end, and reads nothing of the answers."""
    caplog.set_level(logging.INFO, "protosocket_rpc")
    yielded = 0

    async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal yielded
        while True:
            yield bytes(10_000)
            yielded += 10_000

    async with paired(TCP, Replies=endless) as pair:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(pair.target.rpartition(":")[2]), limit=1
        )
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # as of every socket
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        streams = [F(id, method="/test.Service/Replies", body=b"").encode() for id in range(1, 11)]
        writer.write(b"".join(streams))
        calls = [
            F(id, method="/test.Service/Unary", body=bytes(10_000)).encode()
            for id in range(100, 5100)
        ]
        writing = asyncio.ensure_future(send_all(writer, calls))
        last = -1
        while last != yielded:
            last = yielded
            for _ in range(50):
                assert await pair.unary(b"x") == b"x"
        # It has stopped, with what the two sockets hold and no more, though 50 MB were asked for.
        assert yielded < 20_000_000
        assert not writing.done()
        (session,) = [s for s in pair.server._running.sessions if not s.sender().writable]
        assert session.sender().queued < 20_000_000
        writing.cancel()
        writer.transport.abort()
        await asyncio.gather(writing, return_exceptions=True)
        await wait_until(lambda: not pair.server._running.tasks)
    assert "the connection from ipv4:127.0.0.1:" in caplog.text
    del reader


async def send_all(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


# -- servers that should not do that -------------------------------------------------------


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_bytes_from_a_server(
    data: tuple[bytes, str], caplog: pytest.LogCaptureFixture
) -> None:
    broken, _ = data
    async with listening() as peers, ps.insecure_channel(peers.target, limits=LIMITS) as channel:
        calls: list[Any] = [
            channel.unary_unary("/test.Service/Unary")(b"x"),
            channel.unary_stream("/test.Service/Replies")(b"x"),
            channel.stream_unary("/test.Service/Requests")(),
            channel.stream_stream("/test.Service/Both")(),
        ]
        peer = await peers.accept()
        for _ in calls:
            assert (await peer.next()).method
        peer.settings()
        peer.writer.write(broken)
        for call in calls:
            error = await failure(call)
            assert error.code() is ps.StatusCode.UNAVAILABLE
            assert isinstance(error.__cause__, ps.ProtocolError)
        assert "closing the connection to ipv4:127.0.0.1:" in caplog.text
        # After a pause, as for any server that fails, the next call has another connection.
        call = channel.unary_unary("/test.Service/Unary")(b"again", wait_for_ready=True)
        peer = await peers.accept()
        frame = await peer.next()
        peer.reply(frame.id, b"fine")
        assert await call == b"fine"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([F(1, CANCEL)], ps.StatusCode.CANCELLED),
        ([F(1, 99)], ps.StatusCode.CANCELLED),
        ([F(1, status=(99, "?"))], ps.StatusCode.UNKNOWN),
        ([F(1, status=((1 << 32) - 1, "negative"))], ps.StatusCode.UNKNOWN),
        ([F(1, END, status=(5, "on the end"))], ps.StatusCode.NOT_FOUND),
        ([F(1, body=b"part", more=True), F(1, END)], ps.StatusCode.INTERNAL),
        ([F(1, body=b"x", compression=77)], None),
        ([F(9, body=b"?"), F(9, END), F(9, CANCEL), F(1, status=(7, "no"))], "PERMISSION_DENIED"),
    ],
)
async def test_odd_answers(kind: str, answer: list[F], code: Any) -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call: Any = {
            "unary": lambda: channel.unary_unary("/x/y")(b""),
            "replies": lambda: channel.unary_stream("/x/y")(b""),
            "requests": lambda: channel.stream_unary("/x/y")(),
            "both": lambda: channel.stream_stream("/x/y")(),
        }[kind]()
        peer = await peers.accept()
        await peer.next()
        peer.settings()
        peer.writer.write(b"".join(frame.encode() for frame in answer))
        error = await failure(call)
        if isinstance(code, str):
            code = ps.StatusCode[code]
        if code is not None:
            assert error.code() is code
        else:
            assert error.code() in (ps.StatusCode.INTERNAL, ps.StatusCode.UNIMPLEMENTED)
        # The connection is good.
        again = channel.unary_unary("/x/y")(b"")
        frame = await peer.next()
        while not frame.method:
            frame = await peer.next()
        peer.reply(frame.id, b"fine")
        assert await again == b"fine"


@pytest.mark.parametrize("kind", ["unary", "requests"])
async def test_a_server_that_ends_without_a_reply(kind: str) -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call: Any = (
            channel.unary_unary("/x/y")(b"")
            if kind == "unary"
            else channel.stream_unary("/x/y")(iter([b"x"]))
        )
        peer = await peers.accept()
        await peer.next()
        peer.settings()
        peer.writer.write(F(1, END).encode())
        assert (await failure(call)).code() is ps.StatusCode.INTERNAL


async def test_a_server_that_says_nothing_and_closes() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call = channel.unary_unary("/x/y")(b"")
        stream = channel.unary_stream("/x/y")(b"")
        peer = await peers.accept()
        await peer.next()
        peer.writer.close()
        for each in (call, stream):
            assert (await failure(each)).code() is ps.StatusCode.UNAVAILABLE


async def test_a_server_that_never_reads_fills_no_memory() -> None:
    """A stream of requests stops; its deadline ends it, and the next call is not stopped by it."""
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        sent = 0

        async def requests() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                yield bytes(10_000)
                sent += 10_000

        call = channel.stream_unary("/x/y")(requests(), timeout=1.0)
        peer = await peers.accept()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # as of every socket
        peer.settings()
        assert (await failure(call)).code() is ps.StatusCode.DEADLINE_EXCEEDED
        assert 10_000 < sent < 2_000_000


async def test_result_of_a_stream_that_breaks_off() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call = channel.unary_stream("/x/y")(b"")
        peer = await peers.accept()
        await peer.next()
        peer.settings()
        peer.writer.write(F(1, body=b"a").encode() + F(1, body=b"b").encode()[:-1])
        assert await call.read() == b"a"
        peer.writer.close()
        with pytest.raises(ps.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is ps.StatusCode.UNAVAILABLE
        with pytest.raises(ps.AioRpcError):
            await call.read()
