"""What handlers do: every RPC is answered once, whatever they raise."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

import pytest
from rpc.handlers import Handlers
from rpc.notes import (
    CANCEL,
    END,
    Note,
    NoteCodec,
    connect,
    peer_of,
    serving,
)
from support import wait_until

from protosocket_rpc.errors import ConnectionClosed, RemoteCancelled
from protosocket_rpc.rpc.server_session import ServerRpc


class Surprise(BaseException):
    """Like SystemExit: not an Exception."""


RAISED = [
    ValueError("secret"),
    asyncio.CancelledError(),
    Surprise(),
    GeneratorExit(),
    ConnectionClosed("of another connection"),
    StopAsyncIteration(),
    TimeoutError(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["at once", "in its first step", "later"])
@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_handler_that_raises_is_one_cancel_and_a_log_line(
    error: BaseException, when: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def unary(note: Note) -> Note:
        if when == "later":
            await asyncio.sleep(0)
        raise error

    async def stream(note: Note) -> AsyncIterator[Note]:
        if when == "later":
            yield Note("item")
            await asyncio.sleep(0)
        raise error

    async def echo(note: Note) -> Note:
        return note

    def new_rpc(note: Note) -> Any:
        if note.text == "fine":
            return echo(note)
        if when == "at once":
            raise error
        return unary(note) if kind == "unary" else stream(note)

    async with serving(new_rpc) as server, peer_of(server) as peer:
        peer.say(id=1)
        await wait_until(lambda: peer.heard and peer.heard[-1].code)
        items = [Note("item", 1)] if kind == "stream" and when == "later" else []
        assert peer.heard == [*items, Note("", 1, CANCEL)]
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "the handler of RPC 1 raised" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[1] is not None
        # This connection goes on, and so do others.
        peer.say("fine", id=2)
        await wait_until(lambda: peer.heard[-1].id == 2)
        assert peer.heard[-1] == Note("fine", 2)
        assert not server.sessions[0].rpcs


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("waits", [False, True])
async def test_what_ends_the_program_is_answered_first(
    error: type[BaseException], waits: bool
) -> None:
    started: Future[str] = Future()

    async def answer(note: Note) -> Note:
        if waits:
            await asyncio.sleep(0)
        raise error

    async def serve_until_interrupted() -> None:
        async with serving(answer) as server:
            started.set_result(server.rpc.target)
            await asyncio.Event().wait()

    def run() -> None:
        with pytest.raises(error):
            asyncio.run(serve_until_interrupted())

    ended = asyncio.ensure_future(asyncio.to_thread(run))
    async with await connect(await asyncio.wrap_future(started)) as client:
        with pytest.raises(RemoteCancelled):
            await client.unary(Note())
        await ended


async def test_a_handler_disposed_of_after_its_loop_was_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As when an interpreter ends with handlers running: it must end in silence."""
    async with serving(Handlers().new_rpc) as server, peer_of(server) as peer:
        await wait_until(lambda: server.sessions)
        session = server.sessions[0]
        rpc: ServerRpc[Note, Note] = ServerRpc(session, 1)
        handler = session._handle(rpc, Note())
        handler.send(None)
        loop = session._handlers.loop
        session._handlers.loop = asyncio.new_event_loop()
        session._handlers.loop.close()
        handler.close()
        session._handlers.loop = loop
        peer.say(id=2)
        peer.say(id=2, code=CANCEL)
        await wait_until(lambda: peer.heard)
        assert [note.id for note in peer.heard] == [2]
        assert not caplog.records


@pytest.mark.parametrize("answer", [None, 5, "text", Note("not awaitable")])
async def test_an_answer_of_no_known_kind_is_one_cancel_and_a_log_line(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(lambda note: answer) as server, await connect(server.rpc.target) as client:
        with pytest.raises(RemoteCancelled):
            await client.unary(Note())
    assert "neither an awaitable, nor an async iterable, nor REJECTED" in caplog.text


@pytest.mark.parametrize("response", [None, object(), Note(object())])  # type: ignore[arg-type]  # that is the point
async def test_a_response_that_cannot_be_sent_is_one_cancel_and_a_log_line(
    response: Any, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def unary() -> Any:
        return response

    async def stream() -> Any:
        try:
            yield Note("fine")
            yield response
            raise AssertionError("the stream went on")
        finally:
            closed.set()

    def new_rpc(note: Note) -> Any:
        return unary() if note.text == "unary" else stream()

    async with serving(new_rpc) as server, await connect(server.rpc.target) as client:
        with pytest.raises(RemoteCancelled):
            await client.unary(Note("unary"))
        replies = client.stream(Note("stream"))
        assert (await replies.__anext__()).text == "fine"
        with pytest.raises(RemoteCancelled):
            await replies.__anext__()
        await closed.wait()
    assert len(caplog.records) == 2


async def test_nothing_of_a_handler_s_exception_reaches_the_client() -> None:
    async def answer(note: Note) -> Note:
        raise ValueError("secret")

    async with serving(answer) as server:
        reader, writer = await asyncio.open_connection(*server.rpc.target.split(":"))
        writer.write(NoteCodec().encode(Note("", 1)))
        cancel = NoteCodec().encode(Note("", 1, CANCEL))
        assert await reader.readexactly(len(cancel)) == cancel
        writer.close()
        assert await reader.read() == b""
        await writer.wait_closed()


async def test_a_handler_that_swallows_its_cancel_is_answered_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    finished = asyncio.Event()

    async def unary(note: Note) -> Note:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        finished.set()
        return Note("too late")

    async def stream(note: Note) -> AsyncIterator[Note]:
        try:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield Note("too late")
            raise AssertionError("the stream went on")
        finally:
            finished.set()

    def new_rpc(note: Note) -> Any:
        return unary(note) if note.text == "unary" else stream(note)

    for kind in ("unary", "stream"):
        finished.clear()
        async with serving(new_rpc) as server, peer_of(server) as peer:
            peer.say(kind, id=1)
            peer.say(id=1, code=CANCEL)
            await wait_until(lambda: peer.heard)
            await finished.wait()
            peer.say(kind, id=2)
            peer.say(id=2, code=CANCEL)
            await wait_until(lambda: len(peer.heard) == 2)
            assert peer.heard == [Note("", 1, CANCEL), Note("", 2, CANCEL)]
    assert not caplog.records


async def test_a_handler_that_fails_while_it_is_cancelled_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(note: Note) -> Note:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in cleanup")
        return note

    async with serving(answer) as server, peer_of(server) as peer:
        peer.say(id=1)
        peer.say(id=1, code=CANCEL)
        await wait_until(lambda: caplog.records)
        assert peer.heard == [Note("", 1, CANCEL)]
    assert "in cleanup" in caplog.text


async def test_a_generator_that_closes_itself_ends_its_stream() -> None:
    async def answer(note: Note) -> AsyncIterator[Note]:
        yield Note("one")
        return

    async with serving(answer) as server, peer_of(server) as peer:
        peer.say(id=1)
        await wait_until(lambda: len(peer.heard) == 2)
        assert peer.heard == [Note("one", 1), Note("", 1, END)]


async def test_generators_are_closed_in_their_own_task_and_context() -> None:
    tasks: list[Any] = []
    ended = asyncio.Event()

    async def answer(note: Note) -> AsyncIterator[Note]:
        tasks.append(asyncio.current_task())
        try:
            while True:
                yield Note("x" * 10_000)
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            ended.set()

    async with serving(answer) as server, peer_of(server) as peer:
        peer.say(id=1)
        await wait_until(lambda: peer.heard)
        peer.say(id=1, code=CANCEL)
        await ended.wait()
        assert len(set(tasks)) == 1
        assert tasks[0] is not None


async def test_an_end_from_the_client_is_ignored() -> None:
    go_on = asyncio.Event()

    async def answer(note: Note) -> Note:
        await go_on.wait()
        return note

    async with serving(answer) as server, peer_of(server) as peer:
        peer.say("hello", id=1)
        peer.say(id=1, code=END)
        peer.say(id=2, code=END)
        await wait_until(lambda: server.sessions[0].rpcs)
        go_on.set()
        await wait_until(lambda: peer.heard)
        assert peer.heard == [Note("hello", 1)]


async def test_an_id_used_twice_in_flight_is_cancelled_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers = Handlers()
    async with serving(handlers.new_rpc) as server, peer_of(server) as peer:
        peer.say("first", id=1)
        peer.say("other", id=2)
        await handlers.running.acquire()
        await handlers.running.acquire()
        peer.say("second", id=1)
        await handlers.stopped.acquire()
        await wait_until(lambda: peer.heard)
        assert peer.heard == [Note("", 1, CANCEL)]
        assert list(server.sessions[0].rpcs) == [2]
    assert "RPC 1 is cancelled: its id was used again while in flight" in caplog.text


async def test_more_than_max_concurrent_rpcs_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    handlers = Handlers()
    async with (
        serving(handlers.new_rpc, max_concurrent_rpcs=3) as server,
        await connect(server.rpc.target) as client,
    ):
        held = [client.unary(Note()) for _ in range(3)]
        with pytest.raises(RemoteCancelled):
            await client.unary(Note())
        held.pop()
        await handlers.stopped.acquire()
        held.append(client.unary(Note()))
        for _ in range(4):
            await handlers.running.acquire()
    assert "max_concurrent_rpcs is 3" in caplog.text
