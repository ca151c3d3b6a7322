"""What provably never left, or was refused, is tried again; and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectivity.peers import Peer, Peers, listening
from connectivity.service import Stub
from service.pair import failure
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

FAST = ps.ClientConnectivity(first_backoff=0.01, longest_backoff=0.05)
LARGE = b"x" * (1 << 20)


async def collect(peer: Peer, end: int = 2) -> tuple[list[bytes], int]:
    """The requests of a stream up to its END, and the RPC's id."""
    requests: list[bytes] = []
    body = b""
    while True:
        frame = await peer.next()
        if frame.code == end:
            return requests, frame.id
        if frame.body is not None:
            body += frame.body
            if not frame.more:
                requests.append(body)
                body = b""


@pytest.mark.parametrize("request_", [b"small", LARGE], ids=["small", "in fragments"])
async def test_a_refused_call_goes_elsewhere(request_: bytes) -> None:
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).unary(request_)
        first = await peers.accept()
        first.settings()
        await first.next()
        first.go_away(last_id=0)
        second = await peers.accept()
        requests: list[bytes] = []
        while b"".join(requests) != request_:
            frame = await second.next()
            requests.append(frame.body or b"")
        second.reply(frame.id, b"done")
        assert await call == b"done"
        assert "attempts=2" in call.debug_error_string()
        await first.reader.read()  # until the client has closed it: nothing was left


async def test_a_call_that_was_taken_ends_on_the_old_connection() -> None:
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        stub = Stub(channel)
        taken = stub.unary(b"taken")
        refused = stub.unary(b"refused")
        first = await peers.accept()
        first.settings()
        assert (await first.next()).body == b"taken"
        assert (await first.next()).body == b"refused"
        first.go_away(last_id=1)
        second = await peers.accept()
        assert (await second.next()).body == b"refused"
        second.reply(1, b"by the second")
        assert await refused == b"by the second"
        later = stub.unary(b"later")
        assert (await second.next()).body == b"later"
        first.reply(1, b"by the first")
        assert await taken == b"by the first"
        assert await first.reader.read() == b""
        second.reply(2, b"later")
        assert await later == b"later"


async def test_a_draining_connection_closes_with_its_last_call_however_that_ends() -> None:
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).unary(b"")
        first = await peers.accept()
        first.settings()
        await first.next()
        first.go_away(last_id=1)
        await wait_until(lambda: channel.get_state() is not ps.ChannelConnectivity.READY)
        call.cancel()
        await first.reader.read()  # until the client has closed it


async def test_a_refused_stream_of_requests_is_sent_again() -> None:
    async def requests() -> AsyncIterator[bytes]:
        for number in range(10):
            yield b"%d" % number
        await reopened.wait()
        yield b"last"

    reopened = asyncio.Event()
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).requests(requests())
        first = await peers.accept()
        first.settings()
        assert (await first.next()).method == "/test.Service/Requests"
        for number in range(10):
            assert (await first.next()).body == b"%d" % number
        first.go_away(last_id=0)
        second = await peers.accept()
        second.settings()
        reopened.set()
        received, id = await collect(second)
        assert received == [b"%d" % number for number in range(10)] + [b"last"]
        second.reply(id, b"done")
        assert await call == b"done"


async def test_a_half_closed_stream_is_sent_again_with_its_end() -> None:
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).both([b"a", b"b"])
        first = await peers.accept()
        first.settings()
        assert (await collect(first))[0] == [b"a", b"b"]
        first.go_away(last_id=0)
        second = await peers.accept()
        second.settings()
        received, id = await collect(second)
        assert received == [b"a", b"b"]
        second.reply(id, b"c")
        assert await call.read() == b"c"


async def test_a_writer_that_waits_for_credit_goes_on_elsewhere() -> None:
    half = b"y" * 40_000  # two are more than may be sent before the settings
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).requests()
        first = await peers.accept()
        await call.write(half)
        first.go_away(last_id=0)
        second = await peers.accept()
        writing = asyncio.ensure_future(call.write(b"small"))
        second.settings()
        await writing
        await call.done_writing()
        received, id = await collect(second)
        assert received == [half, b"small"]
        second.reply(id, b"done")
        assert await call == b"done"


async def test_a_stream_that_has_sent_too_much_is_not_sent_again() -> None:
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).requests()
        first = await peers.accept()
        first.settings()
        await call.wait_for_connection()
        await first.next()
        await wait_until(lambda: call.session is not None and call.session.peer is not None)
        for _ in range(3):
            await call.write(b"z" * 30_000)
        first.go_away(last_id=0)
        error = await failure(call)
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert "more requests were sent than are kept" in (error.details() or "")


async def test_a_call_in_flight_on_a_lost_connection_is_not_tried_again() -> None:
    """It may have been served: only the caller knows whether twice is too often."""
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).unary(b"")
        first = await peers.accept()
        first.settings()
        await first.next()
        first.reset()
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE


async def stalled(peers: Peers, stub: Stub) -> tuple[Peer, list[Any]]:
    """A connection that the server does not read, and the calls that fill it."""
    filling = [stub.unary(LARGE)]
    peer = await peers.accept()
    peer.writer.transport.pause_reading()
    peer.settings()
    await filling[0].wait_for_connection()
    session = filling[0].session
    await wait_until(lambda: session.peer is not None)
    while session.connection.writable:
        filling.append(stub.unary(LARGE))
        await asyncio.sleep(0)
    return peer, filling


@pytest.mark.parametrize("end", ["reset", "half-close"])
async def test_a_call_that_never_left_is_tried_again(end: str) -> None:
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        stub = Stub(channel)
        first, filling = await stalled(peers, stub)
        queued = [stub.unary(b"%d" % number) for number in range(3)]
        large = stub.unary(LARGE)
        assert not any(call.done() for call in [*queued, large])
        if end == "reset":
            first.reset()
        else:
            first.writer.write_eof()
        second = await peers.accept()
        second.settings()
        seen: dict[int, bytes] = {}
        while len(seen) < 3:
            frame = await second.next()
            if frame.body in (b"0", b"1", b"2"):
                seen[frame.id] = frame.body
                second.reply(frame.id, frame.body)
        assert await asyncio.gather(*queued) == [b"0", b"1", b"2"]
        # What had left, if only in part, may have been served: it is not tried again.
        assert (await failure(filling[0])).code() is ps.StatusCode.UNAVAILABLE
        large.cancel()
        for call in filling[1:]:
            call.cancel()


async def test_the_deadline_goes_on_while_a_call_moves(virtual_clock: VirtualClock) -> None:
    async with (
        listening("memory:moving") as peers,
        ps.insecure_channel(peers.target, connectivity=FAST) as channel,
    ):
        call = Stub(channel).unary(b"", timeout=10)
        first = await peers.accept()
        first.settings()
        assert (await first.next()).timeout_us == 10_000_000
        await virtual_clock.advance(4)
        first.go_away(last_id=0)
        second = await peers.accept()
        left = await second.next()
        assert left.timeout_us == pytest.approx(6_000_000, abs=200_000)  # it has been a moment
        second.reply(left.id, b"")
        await call


async def test_a_full_queue_fails_the_call_and_nothing_else() -> None:
    limits = ps.RpcLimits(max_queued_output=1 << 16)
    async with (
        listening() as peers,
        ps.insecure_channel(peers.target, limits=limits) as channel,
    ):
        stub = Stub(channel)
        first = stub.unary(b"first")
        peer = await peers.accept()
        peer.writer.transport.pause_reading()
        await first.wait_for_connection()
        session: Any = first.session
        small = b"x" * 30_000
        calls: list[Any] = []
        while session.connection.queued < 1 << 16:
            calls.append(stub.unary(small))
        error = await failure(stub.unary(b"one too many", timeout=60))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "max_queued_output is 65536" in (error.details() or "")
        assert calls[0].cancel()  # though the server cannot be told
        assert not first.done()
