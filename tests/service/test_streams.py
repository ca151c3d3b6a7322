"""Flow control over a real socket: who does not read stops one stream, and nothing else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectivity.peers import listening
from service.pair import TCP, paired, result
from service.raw_peer import RawPeer
from service.sansio import F
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.service.channel_connection import ChannelConnection
from protosocket_rpc.service.session import FRAGMENT

WINDOW = 10_000
LIMITS = {"limits": ps.RpcLimits(stream_window=WINDOW)}


class Producer:
    """Yields messages without end, and counts their bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0

    async def replies(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(self.size)
            self.count += 1

    async def requests(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(self.size)
            self.count += 1

    def most(self) -> int:
        """What may have been yielded when the window is full: and one more waits."""
        return WINDOW // max(self.size, 1) + 2


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
async def test_a_client_that_stops_reading_stops_that_handler_and_no_other(size: int) -> None:
    slow = Producer(size)
    async with paired(channel=LIMITS, Replies=slow.replies) as pair:
        call = pair.replies(b"")
        assert await call.read() == bytes(size)
        talk = pair.both()
        # The other calls run on, while the stream comes to a stop and stays there.
        stopped = -1
        while stopped != slow.count:
            stopped = slow.count
            for _ in range(20):
                assert await pair.unary(b"fast") == b"fast"
                await talk.write(b"word")
                assert await talk.read() == b"word"
        assert slow.count <= slow.most()
        # It goes on when it is read.
        for _ in range(2 * slow.most()):
            assert await call.read() == bytes(size)
        assert slow.count > stopped
        call.cancel()
        await talk.done_writing()


@pytest.mark.parametrize("size", [0, 1, 1000, 100_000])
async def test_a_handler_that_stops_reading_stops_that_client_and_no_other(size: int) -> None:
    read = asyncio.Event()
    seen = 0

    async def count(requests: Any, context: Any) -> bytes:
        nonlocal seen
        await read.wait()
        async for _ in requests:
            seen += 1
        return b""

    source = Producer(size)
    async with paired(server=LIMITS, Requests=count) as pair:
        await pair.unary(b"")  # the server's settings have arrived
        call = pair.requests(source.requests())
        stopped = -1
        while stopped != source.count:
            stopped = source.count
            for _ in range(20):
                assert await pair.unary(b"fast") == b"fast"
        assert 0 < source.count <= source.most()
        assert seen == 0
        read.set()
        await wait_until(lambda: seen > 2 * source.most())
        call.cancel()


async def test_a_hundred_streams_that_nobody_reads_do_not_stop_the_connection() -> None:
    producers = [Producer(1000) for _ in range(100)]

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        async for reply in producers[int(request)].replies(request, context):
            yield reply

    async with paired(channel=LIMITS, Replies=replies) as pair:
        calls = [pair.replies(b"%d" % number) for number in range(100)]
        await asyncio.gather(*[call.read() for call in calls])
        last = -1
        while last != sum(producer.count for producer in producers):
            last = sum(producer.count for producer in producers)
            for _ in range(20):
                assert await pair.unary(b"fast") == b"fast"
        assert all(producer.count <= producer.most() for producer in producers)
        for call in calls:
            call.cancel()


@pytest.mark.parametrize("address", [TCP, None], ids=["tcp", "memory"])
@pytest.mark.parametrize("direction", ["request", "reply"])
async def test_64_mib_do_not_hold_up_small_calls(direction: str, address: str | None) -> None:
    """Counted, not timed: small calls are answered while the large one is on its way."""
    size = 64 * 1024 * 1024
    limits = {"limits": ps.RpcLimits(max_receive_message_size=size)}
    arrived: list[int] = []

    async def handler(request: bytes, context: Any) -> bytes:
        if request == b"large":
            return bytes(size)
        if len(request) == size:
            arrived.append(size)
        return request[:10]

    async with paired(address, server=limits, channel=limits, Unary=handler) as pair:
        await pair.unary(b"settings")
        large = pair.unary(b"large" if direction == "reply" else bytes(size))
        small = 0
        while not large.done():
            assert await pair.unary(b"small") == b"small"
            small += 1
            if direction == "request" and arrived:
                break
        assert len(await large) == (size if direction == "reply" else 10)
        # A turn of the loop takes 256 KiB of it, of 256; a small call has its turn in between.
        assert small >= 20


async def test_bytes_of_a_large_reply_between_small_ones() -> None:
    """As the client's socket sees it: frames of a large reply, and small ones among them."""
    async with paired(TCP) as pair:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # not all at once
        client.connect(("127.0.0.1", int(pair.target.rpartition(":")[2])))
        reader, writer = await asyncio.open_connection(sock=client)
        peer = RawPeer(reader, writer)
        peer.settings()
        body = bytes(4_000_000)
        for start in range(0, len(body), 1_000_000):
            more = start + 1_000_000 < len(body)
            method = "" if start else "/test.Service/Unary"
            peer.sends(F(1, method=method, body=body[start : start + 1_000_000], more=more))
        await writer.drain()
        order: list[int] = []
        received = 0
        while received < len(body):
            frame = await peer.hears()
            order.append(frame.id)
            if frame.id == 1:
                assert frame.body is not None
                received += len(frame.body)
                assert len(frame.body) <= FRAGMENT
                if received == FRAGMENT:
                    peer.sends(F(3, method="/test.Service/Unary", body=b"small"))
        assert 3 in order[1:-1]
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("address", [TCP, None], ids=["tcp", "memory"])
async def test_large_calls_share_the_connection(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    """Neither of two large replies waits for the other's end."""
    size = 8 * 1024 * 1024
    limits = {"limits": ps.RpcLimits(max_receive_message_size=size)}
    progress: dict[int, int] = {1: 0, 2: 0}

    async with paired(address, server=limits, channel=limits) as pair:
        await pair.unary(b"settings")
        session = pair.channel.connector().session
        assert session is not None
        deliver = ChannelConnection.on_messages
        rounds: list[tuple[int, int]] = []

        def watch(self: ChannelConnection, messages: list[Any]) -> None:
            for message in messages:
                if message.id in ids and message.body is not None:
                    progress[ids.index(message.id) + 1] += len(message.body)
            rounds.append((progress[1], progress[2]))
            deliver(self, messages)

        monkeypatch.setattr(ChannelConnection, "on_messages", watch)
        ids = [session._last_id + 1, session._last_id + 2]
        calls = [pair.unary(bytes(size)) for _ in ids]
        await asyncio.gather(*calls)
        assert all(abs(first - second) <= size // 2 for first, second in rounds)


async def test_a_stream_from_a_server_without_settings_is_bounded_by_the_connection() -> None:
    limits = ps.RpcLimits(stream_window=10_000, max_receive_message_size=10_000)
    async with listening() as peers, ps.insecure_channel(peers.target, limits=limits) as channel:
        call = channel.unary_stream("/x/y")(b"")
        peer = await peers.accept()
        frame = await peer.next()
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                peer.writer.write(F(frame.id, body=bytes(5000)).encode())
                await peer.writer.drain()
                sent += 1
                await asyncio.sleep(0)

        sending = asyncio.ensure_future(send())
        last = -1
        while last != sent:
            last = sent
            for _ in range(200):
                await asyncio.sleep(0)
        receive = call._rpc.receive
        assert receive is not None
        assert receive._unread < 1_000_000
        before = sent
        for _ in range(sent + 100):
            assert await call.read() == bytes(5000)
        assert sent > before
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        call.cancel()


async def test_a_call_that_ended_unread_does_not_stop_the_connection() -> None:
    limits = ps.RpcLimits(stream_window=1000, max_receive_message_size=1000)
    async with listening() as peers, ps.insecure_channel(peers.target, limits=limits) as channel:
        call = channel.unary_stream("/x/y")(b"")
        peer = await peers.accept()
        frame = await peer.next()
        flood = b"".join([F(frame.id, body=bytes(1000)).encode()] * 200)
        peer.writer.write(flood)
        await wait_until(lambda: call._rpc.receive is not None and call._rpc.receive._unread)
        call.cancel()
        other = channel.unary_unary("/x/y")(b"")
        frame = await peer.next()
        while not frame.method:
            frame = await peer.next()
        peer.reply(frame.id, b"fine")
        assert await other == b"fine"


async def test_many_streams_of_each_direction_at_once() -> None:
    async with paired(server=LIMITS, channel=LIMITS) as pair:
        bodies = [bytes([number]) * (number * 977 % 30_000) for number in range(60)]

        async def talk(number: int) -> None:
            mine = bodies[number:] + bodies[:number]
            assert await result(pair.both(iter(mine))) == mine

        await asyncio.gather(*[talk(number) for number in range(60)])
