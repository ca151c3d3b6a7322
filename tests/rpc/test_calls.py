"""RPCs over real sockets, in good order."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest
from rpc.notes import END, NOTES, Note, NoteCodec, client_and_peer, connect, peer_of, serving
from support import Certificates, wait_until

from protosocket_rpc import rpc
from protosocket_rpc.errors import RemoteCancelled, RpcFinished, UsageError


async def echo(note: Note) -> Note:
    return note


async def count(note: Note) -> AsyncIterator[Note]:
    for number in range(int(note.text)):
        yield Note(str(number))


async def test_unary(target: str) -> None:
    async with serving(echo, target) as server, await connect(server.rpc.target) as client:
        assert (await client.unary(Note("hello"))).text == "hello"


async def test_unary_over_tls(certificates: Certificates) -> None:
    async with (
        serving(echo, ssl=certificates.server_context()) as server,
        await connect(
            server.rpc.target, ssl=certificates.client_context(), server_hostname="localhost"
        ) as client,
    ):
        assert (await client.unary(Note("hello"))).text == "hello"


async def test_small_messages_do_not_wait_for_acknowledgements() -> None:
    """TCP_NODELAY on both ends: else a burst can take 40 ms."""
    async with serving(echo) as server, await connect(server.rpc.target) as client:
        await client.unary(Note())
        for connection in (client._session.sender(), server.sessions[0].connection):
            sock = connection.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_stream() -> None:
    async with serving(count) as server, await connect(server.rpc.target) as client:
        assert [note.text async for note in client.stream(Note("3"))] == ["0", "1", "2"]
        assert [note.text async for note in client.stream(Note("0"))] == []


async def test_an_answer_is_due_while_a_unary_rpc_is_in_flight() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def answer(note: Note) -> Note:
        begun.set()
        await release.wait()
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        both = [client._session, server.sessions[0]]
        reply = asyncio.ensure_future(client.unary(Note()))
        await begun.wait()
        assert [session.awaits() for session in both] == [True, True]
        release.set()
        await reply
        assert [session.awaits() for session in both] == [False, False]


async def test_no_answer_is_due_while_a_stream_is_open() -> None:
    """It may be for as long as there is a connection."""
    release = asyncio.Event()

    async def answers(note: Note) -> AsyncIterator[Note]:
        yield note
        await release.wait()

    async with serving(answers) as server, await connect(server.rpc.target) as client:
        stream = client.stream(Note())
        await stream.__anext__()
        for session in (client._session, server.sessions[0]):
            assert len(session.rpcs) == 1
            assert not session.awaits()
        release.set()
        assert [note async for note in stream] == []


async def test_a_stream_that_has_ended_stays_ended() -> None:
    async with serving(count) as server, await connect(server.rpc.target) as client:
        stream = client.stream(Note("1"))
        assert (await stream.__anext__()).text == "0"
        for _ in range(3):
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
        assert not stream.cancel()
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()


async def test_ids_are_the_library_s_job() -> None:
    request = Note("hello", id=4711)
    async with client_and_peer() as (client, peer):
        replies = [client.unary(request), client.unary(request)]
        await wait_until(lambda: len(peer.heard) == 2)
        assert peer.heard == [Note("hello", 1), Note("hello", 2)]
        peer.say("b", id=2)
        peer.say("a", id=1)
        assert [note.text for note in await asyncio.gather(*replies)] == ["a", "b"]


async def test_thousands_in_flight_out_of_order() -> None:
    total = 20_000
    waiting: dict[str, asyncio.Future[None]] = {}
    all_here = asyncio.Event()

    async def answer(note: Note) -> Note:
        waiting[note.text] = asyncio.get_running_loop().create_future()
        if len(waiting) == total:
            all_here.set()
        await waiting[note.text]
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        order: list[str] = []

        async def call(text: str) -> None:
            assert (await client.unary(Note(text))).text == text
            order.append(text)

        calls = asyncio.gather(*(call(str(number)) for number in range(total)))
        await all_here.wait()
        expected = list(waiting)
        random.Random(1).shuffle(expected)
        for text in expected:
            waiting[text].set_result(None)
        await calls
        assert order == expected
        assert not client._session.rpcs


async def test_slow_handlers_do_not_hold_up_fast_ones() -> None:
    release = asyncio.Event()

    async def answer(note: Note) -> Note:
        if note.text == "slow":
            await release.wait()
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        slow = client.unary(Note("slow"))
        for _ in range(100):
            await client.unary(Note("fast"))
        assert not slow.done()
        release.set()
        assert (await slow).text == "slow"


async def test_a_stream_that_never_waits_does_not_hold_up_others() -> None:
    async def answer(note: Note) -> AsyncIterator[Note]:
        while note.text == "endless":
            yield Note("again")
        yield Note("done")

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        endless = client.stream(Note("endless"))
        assert (await endless.__anext__()).text == "again"
        reader = asyncio.ensure_future(read_all(endless))
        assert [note.text async for note in client.stream(Note("other"))] == ["done"]
        reader.cancel()
        await asyncio.wait([reader])


async def read_all(stream: AsyncIterator[Note]) -> None:
    async for _ in stream:
        pass


async def test_handlers_start_in_the_order_and_turn_of_their_arrival() -> None:
    started: list[str] = []

    async def answer(note: Note) -> Note:
        started.append(note.text)
        return note

    async with serving(answer) as server, peer_of(server) as peer:
        for number in range(50):
            peer.say(str(number), id=number + 1)
        await wait_until(lambda: len(peer.heard) == 50)
        assert started == [str(number) for number in range(50)]
        # None had to wait for a turn of its own: answers leave in the order of the requests.
        assert [note.text for note in peer.heard] == started


async def test_a_handler_starts_before_the_next_message_is_looked_at() -> None:
    started: list[str] = []
    when: list[tuple[str, list[str]]] = []

    async def answer(note: Note) -> Note:
        started.append(note.text)
        await asyncio.Event().wait()
        return note

    async with serving(answer) as server, peer_of(server) as peer:
        await wait_until(lambda: server.sessions)
        session = server.sessions[0]
        dispatch = session.on_messages

        def on_messages(messages: list[object]) -> None:
            when.append(("before", list(started)))
            dispatch(messages)
            when.append(("after", list(started)))

        session.on_messages = on_messages
        peer.say("a", id=1)
        peer.say("b", id=2)
        await wait_until(lambda: len(started) == 2)
        assert when == [("before", []), ("after", ["a", "b"])]


async def test_handlers_have_their_own_context_variables() -> None:
    current: ContextVar[str] = ContextVar("current", default="none")
    seen: list[str] = []
    both = asyncio.Event()

    def new_rpc(note: Note) -> object:  # what sets the variable is not even the coroutine
        seen.append(current.get())
        current.set(note.text)
        return unary(note) if note.text != "c" else stream(note)

    async def unary(note: Note) -> Note:
        if note.text == "b":
            both.set()
        await both.wait()
        return Note(current.get())

    async def stream(note: Note) -> AsyncIterator[Note]:
        yield Note(current.get())
        await asyncio.sleep(0)
        yield Note(current.get())

    async with serving(new_rpc) as server, await connect(server.rpc.target) as client:
        replies = await asyncio.gather(client.unary(Note("a")), client.unary(Note("b")))
        assert [note.text for note in replies] == ["a", "b"]
        assert [note.text async for note in client.stream(Note("c"))] == ["c", "c"]
        assert seen == ["none"] * 3


async def test_handlers_run_in_tasks_of_their_own() -> None:
    tasks: list[object] = []

    async def answer(note: Note) -> Note:
        tasks.append(asyncio.current_task())
        await asyncio.wait_for(asyncio.sleep(0), timeout=5)
        tasks.append(asyncio.current_task())
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        await asyncio.gather(client.unary(Note("a")), client.unary(Note("b")))
    assert None not in tasks
    assert len(set(tasks)) == 2


async def test_awaitables_and_iterables_of_any_kind_are_answers() -> None:
    class Countdown:
        """An async iterator that is no generator, and has no ``aclose``."""

        def __init__(self, start: int) -> None:
            self.left = start

        def __aiter__(self) -> Countdown:
            return self

        async def __anext__(self) -> Note:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return Note(str(self.left))

    def new_rpc(note: Note) -> object:
        loop = asyncio.get_running_loop()
        if note.text == "future":
            future: asyncio.Future[Note] = loop.create_future()
            loop.call_soon(future.set_result, Note("from a future"))
            return future
        if note.text == "task":
            return loop.create_task(echo(note))
        return Countdown(2)

    async with serving(new_rpc) as server, await connect(server.rpc.target) as client:
        assert (await client.unary(Note("future"))).text == "from a future"
        assert (await client.unary(Note("task"))).text == "task"
        assert [note.text async for note in client.stream(Note("2"))] == ["1", "0"]


async def test_a_completion_can_answer_for_another_server() -> None:
    async with (
        serving(echo) as upstream,
        await connect(upstream.rpc.target) as to_upstream,
        serving(to_upstream.unary) as proxy,
        await connect(proxy.rpc.target) as client,
    ):
        assert (await client.unary(Note("through"))).text == "through"


async def test_rejection() -> None:
    def new_rpc(note: Note) -> object:
        return rpc.REJECTED if note.text == "no" else echo(note)

    async with serving(new_rpc) as server, await connect(server.rpc.target) as client:
        with pytest.raises(RemoteCancelled):
            await client.unary(Note("no"))
        with pytest.raises(RemoteCancelled):
            await client.stream(Note("no")).__anext__()
        assert (await client.unary(Note("yes"))).text == "yes"


async def test_a_unary_rpc_that_ends_without_a_reply() -> None:
    async with serving(count) as server, await connect(server.rpc.target) as client:
        with pytest.raises(RpcFinished):
            await client.unary(Note("0"))


async def test_a_completion_can_be_awaited_again() -> None:
    async with serving(echo) as server, await connect(server.rpc.target) as client:
        completion = client.unary(Note("hello"))
        first = await completion
        assert await completion is first
        assert completion.done()


async def test_completions_work_with_asyncio_s_functions() -> None:
    async with serving(echo) as server, await connect(server.rpc.target) as client:
        assert (await asyncio.wait_for(client.unary(Note("a")), 5)).text == "a"
        assert (await asyncio.shield(client.unary(Note("b")))).text == "b"
        texts = [
            (await reply).text
            for reply in asyncio.as_completed([client.unary(Note(t)) for t in "cd"])
        ]
        assert sorted(texts) == ["c", "d"]


async def test_two_readers_of_one_stream_are_a_usage_error() -> None:
    async with client_and_peer() as (client, peer):
        stream = client.stream(Note())
        reader = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(UsageError):
            await stream.__anext__()
        peer.say("a", id=1)
        assert (await reader).text == "a"
        peer.say(id=1, code=END)
        with pytest.raises(StopAsyncIteration):
            await stream.__anext__()


async def test_many_streams_side_by_side() -> None:
    async with serving(count) as server, await connect(server.rpc.target) as client:

        async def total(length: int) -> int:
            return sum([int(note.text) async for note in client.stream(Note(str(length)))])

        lengths = range(0, 200, 7)
        totals = await asyncio.gather(*map(total, lengths))
        assert totals == [length * (length - 1) // 2 for length in lengths]


async def test_large_messages() -> None:
    text = "x" * (5 * 1024 * 1024)
    async with serving(echo) as server, await connect(server.rpc.target) as client:
        replies = await asyncio.gather(*(client.unary(Note(text)) for _ in range(4)))
        assert all(note.text == text for note in replies)


async def test_the_service_knows_its_connection() -> None:
    peers: list[object] = []

    class Service(rpc.ConnectionService[Note, Note]):
        def __init__(self, connection: object) -> None:
            peers.append(connection.get_extra_info("peername"))  # type: ignore[attr-defined]  # a Connection

        async def new_rpc(self, note: Note) -> Note:
            return note

    async with await rpc.serve(
        "127.0.0.1:0", NoteCodec, Service, request=NOTES, response=NOTES
    ) as server:
        for _ in range(2):
            async with await connect(server.target) as client:
                await client.unary(Note())
    assert len(set(peers)) == 2
