"""Who does not read stops who sends: on both sides, and within named limits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from itertools import count, groupby

import pytest
from rpc.notes import CANCEL, END, Note, NoteCodec, client_and_peer, connect, peer_of, serving
from support import wait_until

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw import Limits
from protosocket_rpc.raw.connection import MOST_WAITING

KIB = 1024
# The most that a loop reads from a socket at once: what a limit is exceeded by.
ONE_READ = 256 * KIB


async def quiet() -> None:
    """Give both sides every chance to move."""
    for _ in range(200):
        await asyncio.sleep(0)


async def test_a_stream_that_is_not_read_stops_its_handler_within_max_unread() -> None:
    produced = 0

    async def numbers(note: Note) -> AsyncIterator[Note]:
        nonlocal produced
        for produced in count():  # read by the test
            yield Note(f"{produced:010}".ljust(10 * KIB))

    async with (
        serving(numbers) as server,
        await connect(server.rpc.target, max_unread=100 * KIB) as client,
    ):
        stream = client.stream(Note())
        assert int((await stream.__anext__()).text) == 0
        session = client._session
        await wait_until(lambda: session._paused and not server.sessions[0].connection.writable)
        await quiet()
        stopped_at = produced
        assert 100 * KIB < session.unread < 100 * KIB + ONE_READ + 20 * KIB
        await quiet()
        assert produced == stopped_at
        # Nothing is lost, and the handler goes on when the application does.
        for expected in range(1, stopped_at + 100):
            assert int((await stream.__anext__()).text) == expected
        stream.cancel()
        assert session.unread == 0


async def test_small_messages_count_for_more_than_their_bytes() -> None:
    async def numbers(note: Note) -> AsyncIterator[Note]:
        while True:
            yield Note()

    async with (
        serving(numbers) as server,
        await connect(server.rpc.target, max_unread=100 * KIB) as client,
    ):
        stream = client.stream(Note())
        session = client._session
        await wait_until(lambda: session._paused)
        assert (
            len(stream._rpc._unread) < (100 * KIB + ONE_READ) / len(NoteCodec().encode(Note())) / 4
        )
        stream.cancel()


async def test_other_rpcs_go_on_once_the_stream_is_read_or_given_up() -> None:
    async def numbers(note: Note) -> AsyncIterator[Note]:
        while True:
            yield Note("x" * 10 * KIB)

    async with (
        serving(numbers) as server,
        await connect(server.rpc.target, max_unread=100 * KIB) as client,
    ):
        stream = client.stream(Note())
        await wait_until(lambda: client._session._paused)
        other = client.stream(Note())
        reader = asyncio.ensure_future(other.__anext__())
        await quiet()
        assert not reader.done()
        del stream
        assert len((await reader).text) == 10 * KIB
        other.cancel()


async def test_a_stream_stops_while_its_connection_is_not_writable() -> None:
    yielded = 0

    async def numbers(note: Note) -> AsyncIterator[Note]:
        nonlocal yielded
        for yielded in range(1000):  # noqa: B007  # read by the test
            assert server.sessions[0].connection.writable
            yield Note("x" * 100 * KIB)

    async with serving(numbers) as server, peer_of(server) as peer:
        peer.connection.pause_reading()
        peer.say(id=1)
        await wait_until(lambda: server.sessions)
        connection = server.sessions[0].connection
        await wait_until(lambda: not connection.writable)
        await quiet()
        assert yielded < 200
        assert connection.queued == 0  # what was yielded is the transport's
        peer.connection.resume_reading()
        await wait_until(lambda: len(peer.heard) == 1001)


async def test_replies_wait_for_a_client_that_does_not_read() -> None:
    go_on = asyncio.Event()

    async def answer(note: Note) -> Note:
        await go_on.wait()
        return Note("x" * 1024 * KIB)

    # The queue has room for one reply at most, and the system for a few.
    async with (
        serving(answer, limits=Limits(max_queued_output=1)) as server,
        peer_of(server) as peer,
    ):
        for id in range(1, 101):
            peer.say(id=id)
        await wait_until(lambda: server.sessions and len(server.sessions[0].rpcs) == 100)
        peer.connection.pause_reading()
        go_on.set()
        await wait_until(lambda: not server.sessions[0].connection.writable)
        await quiet()
        assert len(server.sessions[0].rpcs) > 80
        peer.connection.resume_reading()
        await wait_until(lambda: len(peer.heard) == 100)
        assert sorted(note.id for note in peer.heard) == list(range(1, 101))
        assert not any(note.code for note in peer.heard)


async def test_many_streams_wait_for_a_client_that_does_not_read() -> None:
    go_on = asyncio.Event()

    async def answer(note: Note) -> AsyncIterator[Note]:
        await go_on.wait()  # a server that is stalled would not read the other requests
        for number in range(3):
            await asyncio.sleep(0)
            yield Note(str(number) * 256 * KIB)
        await asyncio.sleep(0)

    async with (
        serving(answer, limits=Limits(max_queued_output=1)) as server,
        peer_of(server) as peer,
    ):
        for id in range(1, 101):
            peer.say(id=id)
        await wait_until(lambda: server.sessions and len(server.sessions[0].rpcs) == 100)
        peer.connection.pause_reading()
        go_on.set()
        await wait_until(lambda: not server.sessions[0].connection.writable)
        await quiet()
        peer.connection.resume_reading()
        await wait_until(lambda: len(peer.heard) == 400)
        for id in range(1, 101):
            answers = [(note.text[:1], note.code) for note in peer.heard if note.id == id]
            assert answers == [("0", 0), ("1", 0), ("2", 0), ("", END)]


async def test_streams_do_not_keep_a_reply_waiting() -> None:
    """Each time that the client reads, those that have waited for longest are next."""
    go_on = asyncio.Event()
    streams = range(1, 6)

    async def numbers() -> AsyncIterator[Note]:
        await go_on.wait()
        while True:
            yield Note("x" * 256 * KIB)

    async def reply() -> Note:
        await go_on.wait()
        return Note("reply")

    async with (
        serving(
            lambda note: numbers() if note.id in streams else reply(),
            limits=Limits(max_queued_output=1),
        ) as server,
        peer_of(server) as peer,
    ):
        for id in (*streams, 6):
            peer.say(id=id)
        await wait_until(lambda: server.sessions and len(server.sessions[0].rpcs) == 6)
        go_on.set()
        turns: list[int] = []
        while len(turns) <= 11:
            await asyncio.sleep(0)
            turns = [id for id, _ in groupby(note.id for note in peer.heard)]
        assert turns[:11] == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]


async def test_a_client_that_only_sends_is_read_from_no_more() -> None:
    started = 0

    async def answer(note: Note) -> Note:
        nonlocal started
        started += 1
        return note

    async with serving(answer) as server, peer_of(server) as peer:
        peer.connection.pause_reading()
        sent = 0
        while peer.connection.writable or server.sessions[0].connection.writable:
            sent += 1
            peer.say("x" * 10 * KIB, id=sent)
            await asyncio.sleep(0)
        await quiet()
        assert started < sent
        assert len(server.sessions[0].rpcs) <= ONE_READ // (10 * KIB) + 1
        assert server.sessions[0].connection.queued == 0
        peer.connection.resume_reading()
        await wait_until(lambda: len(peer.heard) == sent)


async def test_one_that_reads_slowly_is_not_read_from_without_bound() -> None:
    async def answer(note: Note) -> Note:
        return note

    async with serving(answer) as server, peer_of(server) as peer:
        peer.say(id=1)
        await wait_until(lambda: peer.heard)
        session = server.sessions[0]
        sock = session.connection.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * KIB)
        most = sent = 1
        while len(peer.heard) < 2000:
            if peer.connection.writable:
                sent += 1
                peer.say("x" * 10 * KIB, id=sent)
            await asyncio.sleep(0)
            most = max(most, len(session.rpcs))
        assert most <= MOST_WAITING + 2 * ONE_READ // (10 * KIB)


async def test_requests_beyond_the_queue_wait_until_they_can_leave() -> None:
    async with client_and_peer(limits=Limits(max_queued_output=100 * KIB)) as (client, peer):
        peer.connection.pause_reading()
        completions = [client.unary(Note(str(n).ljust(10 * KIB))) for n in range(1000)]
        stream = client.stream(Note("stream"))
        calls = asyncio.gather(*completions)
        reader = asyncio.ensure_future(stream.__anext__())
        await quiet()
        kept = [completion for completion in completions if completion._kept is not None]
        assert len(kept) > 500
        assert stream._kept is not None
        assert client._session.sender().queued < 120 * KIB
        peer.connection.resume_reading()
        await wait_until(lambda: len(peer.heard) == 1001)
        for note in peer.heard:
            peer.say(note.text, id=note.id)
        texts = [int(note.text) for note in await calls]
        assert texts == list(range(1000))
        assert (await reader).text == "stream"
        stream.cancel()


async def test_requests_that_never_left_need_no_cancel() -> None:
    async with client_and_peer(limits=Limits(max_queued_output=1)) as (client, peer):
        peer.connection.pause_reading()
        sent = []
        while not sent or sent[-1]._kept is None:
            sent.append(client.unary(Note("x" * 100 * KIB)))
        cancelled, stream = client.unary(Note("cancelled")), client.stream(Note("cancelled"))
        waiting = asyncio.ensure_future(client.unary(Note("waiting")).__await__().__next__())  # type: ignore[arg-type]  # started by hand
        assert cancelled.cancel()
        assert stream.cancel()
        for awaitable in (cancelled, stream.__anext__()):
            with pytest.raises(asyncio.CancelledError):
                await awaitable
        waiting.cancel()
        sent.pop()
        peer.connection.resume_reading()
        await wait_until(lambda: len(peer.heard) == len(sent))
        await quiet()
        assert not any(note.code == CANCEL or note.text == "cancelled" for note in peer.heard)


async def test_a_waiting_request_of_a_lost_connection_fails() -> None:
    async with client_and_peer(limits=Limits(max_queued_output=1)) as (client, peer):
        peer.connection.pause_reading()
        sent = []
        while not sent or sent[-1]._kept is None:
            sent.append(client.unary(Note("x" * 100 * KIB)))
        calls = [asyncio.ensure_future(wait(completion)) for completion in sent]
        await quiet()
        await client.close()
        for call in calls:
            with pytest.raises(ConnectionClosed):
                await call


async def wait(completion: object) -> None:
    await completion  # type: ignore[misc]  # of any kind
