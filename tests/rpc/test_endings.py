"""Cancel, drop, loss, failing handlers: every RPC ends once on both sides, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest
from rpc.notes import (
    CANCEL,
    END,
    Note,
    NoteCodec,
    Peer,
    Server,
    client_and_peer,
    connect,
    peer_of,
    serving,
)
from support import Certificates, wait_until

from protosocket_rpc import raw
from protosocket_rpc.errors import ConnectionClosed, RemoteCancelled
from protosocket_rpc.rpc import RpcClient
from protosocket_rpc.rpc.server_session import ServerRpc


class Handlers:
    """Handlers that wait for ever, and tell what becomes of them."""

    def __init__(self) -> None:
        self.running = asyncio.Semaphore(0)
        self.stopped = asyncio.Semaphore(0)
        self.outcomes: list[str] = []

    def new_rpc(self, note: Note) -> Any:
        return self.stream(note) if note.text.startswith("stream") else self.unary(note)

    async def unary(self, note: Note) -> Note:
        with self.told():
            await asyncio.Event().wait()
        return note

    async def stream(self, note: Note) -> AsyncIterator[Note]:
        with self.told():
            yield Note("first")
            await asyncio.Event().wait()

    @contextlib.contextmanager
    def told(self) -> Any:
        self.running.release()
        try:
            yield
        except BaseException as error:
            self.outcomes.append(type(error).__name__)
            raise
        finally:
            self.stopped.release()


# -- given up by the client --------------------------------------------------------------------


async def cancel_method(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    completion = client.unary(Note())
    await handlers.running.acquire()
    assert completion.cancel()
    assert not completion.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completion


async def cancel_task(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    async def call() -> Note:
        return await client.unary(Note())

    task = asyncio.ensure_future(call())
    await handlers.running.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def time_out(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.unary(Note()), 0.05)
    await handlers.running.acquire()


async def drop(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    completion = client.unary(Note())
    await handlers.running.acquire()
    del completion


async def cancel_task_but_hold_completion(
    client: RpcClient[Note, Note], handlers: Handlers
) -> None:
    completion = client.unary(Note())

    async def call() -> Note:
        return await completion

    task = asyncio.ensure_future(call())
    await handlers.running.acquire()
    task.cancel()
    await asyncio.wait([task])
    await handlers.stopped.acquire()
    handlers.stopped.release()
    assert completion.done()


async def drop_in_a_cycle(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    cycle: list[Any] = [client.unary(Note())]
    cycle.append(cycle)
    await handlers.running.acquire()
    del cycle
    gc.collect()


async def drop_on_another_thread(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    held = [client.unary(Note())]
    await handlers.running.acquire()
    # Later, so that the loop waits for something to happen by then: it has to be woken.
    threading.Timer(0.05, held.clear).start()


async def cancel_stream(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    assert stream.cancel()
    assert not stream.cancel()
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await stream.__anext__()


async def cancel_stream_under_a_reader(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    reader = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def cancel_reading_task(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    async def read() -> None:
        async for _ in client.stream(Note("stream")):
            reading.set()

    reading = asyncio.Event()
    task = asyncio.ensure_future(read())
    await reading.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_reading_task_but_hold_stream(
    client: RpcClient[Note, Note], handlers: Handlers
) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    reader = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    await handlers.stopped.acquire()
    handlers.stopped.release()
    with pytest.raises(asyncio.CancelledError):
        await stream.__anext__()


async def break_out(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    async for note in client.stream(Note("stream")):
        assert note.text == "first"
        break


async def close_stream(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    await stream.aclose()


@pytest.mark.parametrize(
    "give_up",
    [
        cancel_method,
        cancel_task,
        cancel_task_but_hold_completion,
        time_out,
        drop,
        drop_in_a_cycle,
        drop_on_another_thread,
        cancel_stream,
        cancel_stream_under_a_reader,
        cancel_reading_task,
        cancel_reading_task_but_hold_stream,
        break_out,
        close_stream,
    ],
)
async def test_giving_up_cancels_the_handler(
    give_up: Callable[[RpcClient[Note, Note], Handlers], Awaitable[None]],
) -> None:
    handlers = Handlers()
    async with (
        serving(handlers.new_rpc) as server,
        await connect(server.rpc.target) as client,
    ):
        await give_up(client, handlers)
        await handlers.stopped.acquire()
        assert handlers.outcomes == ["CancelledError"]
        assert not client._session.rpcs
        await wait_until(lambda: not server.sessions[0].rpcs)


async def test_giving_up_sends_one_cancel() -> None:
    async with client_and_peer() as (client, peer):
        client.unary(Note("dropped"))
        await wait_until(lambda: len(peer.heard) == 2)
        completion = client.unary(Note("cancelled"))
        completion.cancel()
        del completion
        await wait_until(lambda: len(peer.heard) == 4)
        completion = client.unary(Note("answered"))
        await wait_until(lambda: len(peer.heard) == 5)
        peer.say(id=3)
        await completion
        del completion
    assert await peer.closed is None
    assert peer.heard == [
        Note("dropped", 1),
        Note("", 1, CANCEL),
        Note("cancelled", 2),
        Note("", 2, CANCEL),
        Note("answered", 3),
    ]


async def test_a_task_that_nobody_holds_keeps_its_rpc() -> None:
    async with client_and_peer() as (client, peer):
        done: list[str] = []

        async def call() -> None:
            done.append((await client.unary(Note())).text)

        asyncio.get_running_loop().call_soon(asyncio.ensure_future, call())
        await wait_until(lambda: peer.heard)
        gc.collect()
        peer.say("answer", id=1)
        await wait_until(lambda: done)
        assert done == ["answer"]


async def test_completions_outlive_their_loop_in_peace() -> None:
    """Dropped after the loop has closed: nothing to tell, nothing raised."""
    completions: list[Any] = []

    async def main() -> None:
        async with client_and_peer() as (client, _):
            completions.append(client.unary(Note()))
            completions.append(client.stream(Note()))

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    completions.clear()


async def test_an_error_that_nobody_asks_for_is_not_reported() -> None:
    """Nothing reaches the loop's exception handler, which would fail this test."""
    async with client_and_peer() as (client, peer):
        completion = client.unary(Note())
        await wait_until(lambda: peer.heard)
        peer.say(id=1, code=CANCEL)
        await wait_until(completion.done)
        del completion


# -- ended by the server -----------------------------------------------------------------------


async def test_remote_cancel() -> None:
    async with client_and_peer() as (client, peer):
        unary, stream = client.unary(Note()), client.stream(Note())
        await wait_until(lambda: len(peer.heard) == 2)
        peer.say(id=1, code=CANCEL)
        peer.say("item", id=2)
        peer.say(id=2, code=CANCEL)
        with pytest.raises(RemoteCancelled):
            await unary
        assert (await stream.__anext__()).text == "item"
        for _ in range(2):
            with pytest.raises(RemoteCancelled):
                await stream.__anext__()
    assert len(peer.heard) == 2  # they had ended: no CANCEL


async def test_late_messages_change_nothing() -> None:
    async with client_and_peer() as (client, peer):
        first = client.unary(Note())
        await wait_until(lambda: peer.heard)
        for code in (0, 0, END, CANCEL):
            peer.say("late", id=1, code=code)
            peer.say("never asked for", id=77, code=code)
        assert (await first).text == "late"
        second = client.unary(Note())
        await wait_until(lambda: len(peer.heard) == 2)
        peer.say("in time", id=2)
        assert (await second).text == "in time"


# -- what handlers do --------------------------------------------------------------------------


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
        await asyncio.sleep(0.01)
        assert peer.heard == []
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


# -- loss --------------------------------------------------------------------------------------


async def test_a_client_that_goes_away_cancels_its_handlers() -> None:
    handlers = Handlers()
    async with serving(handlers.new_rpc) as server:
        async with await connect(server.rpc.target) as client:
            unary, stream = client.unary(Note()), client.stream(Note("stream"))
            await stream.__anext__()
            for _ in range(2):
                await handlers.running.acquire()
        await handlers.stopped.acquire()
        await handlers.stopped.acquire()
        assert handlers.outcomes == ["CancelledError"] * 2
        assert await server.services[0].closed is None
        assert not server.sessions
        with pytest.raises(ConnectionClosed):
            await unary


async def test_a_lost_connection_ends_every_rpc_with_its_cause() -> None:
    async with client_and_peer() as (client, peer):
        unary, stream = client.unary(Note()), client.stream(Note())
        await wait_until(lambda: len(peer.heard) == 2)
        peer.say("item", id=2)
        await wait_until(lambda: stream._rpc.readable)
        # Cut off in the middle of a message.
        peer.connection.write(b"\xce\0\0\0\x10half of")
        peer.connection.close()
        with pytest.raises(ConnectionClosed) as caught:
            await unary
        assert isinstance(caught.value.__cause__, ConnectionClosed)
        assert (await stream.__anext__()).text == "item"
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="in the middle of a message"):
                await stream.__anext__()
        assert not client.alive
        with pytest.raises(ConnectionClosed):
            client.unary(Note())
        with pytest.raises(ConnectionClosed):
            client.stream(Note())


async def test_a_connection_that_its_server_closes() -> None:
    async with client_and_peer() as (client, peer):
        completion = client.unary(Note())
        await wait_until(lambda: peer.heard)
        peer.connection.close()
        with pytest.raises(ConnectionClosed) as caught:
            await completion
        assert caught.value.__cause__ is None


async def test_a_client_that_is_closed_ends_its_rpcs() -> None:
    async with client_and_peer() as (client, peer):
        unary, stream = client.unary(Note()), client.stream(Note())
        reader = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        await client.close()
        await client.close()
        assert not client.alive
        for awaitable in (unary, reader):
            with pytest.raises(ConnectionClosed):
                await awaitable
        assert await peer.closed is None


# -- stop --------------------------------------------------------------------------------------


async def test_stop_lets_handlers_finish_within_the_grace() -> None:
    go_on = asyncio.Event()

    async def answer(note: Note) -> Note:
        await go_on.wait()
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        completion = client.unary(Note("hello"))
        await wait_until(lambda: server.sessions and server.sessions[0].rpcs)
        stopping = asyncio.ensure_future(server.rpc.stop(30))
        await asyncio.sleep(0)
        with pytest.raises(RemoteCancelled):
            await client.unary(Note("too late"))
        with pytest.raises(OSError, match=r"."):
            await connect(server.rpc.target)
        assert not stopping.done()
        go_on.set()
        assert (await completion).text == "hello"
        await stopping
        await wait_until(lambda: not client.alive)


async def test_stop_cancels_after_the_grace_and_awaits_every_handler() -> None:
    ended: list[str] = []

    async def unary(note: Note) -> Note:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            ended.append("unary")
        return note

    async def stream(note: Note) -> AsyncIterator[Note]:
        try:
            yield Note("item")
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            ended.append("stream")

    def new_rpc(note: Note) -> Any:
        return unary(note) if note.text == "unary" else stream(note)

    async with serving(new_rpc) as server, await connect(server.rpc.target) as client:
        completion = client.unary(Note("unary"))
        replies = client.stream(Note("stream"))
        await replies.__anext__()
        await server.rpc.stop(0.05)
        assert sorted(ended) == ["stream", "unary"]
        with pytest.raises(RemoteCancelled):
            await completion
        with pytest.raises(RemoteCancelled):
            await replies.__anext__()
        await server.rpc.stop(0.05)


async def test_stop_does_not_wait_for_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protosocket_rpc.rpc.server._LAST_WORDS", 0.05)

    async def answer(note: Note) -> AsyncIterator[Note]:
        while True:
            yield Note("x" * 100_000)

    async with serving(answer) as server, peer_of(server) as peer:
        peer.connection.pause_reading()
        peer.say(id=1)
        await wait_until(lambda: server.sessions and server.sessions[0].rpcs)
        await wait_until(lambda: not server.sessions[0].connection.writable)
        await server.rpc.stop()
        peer.connection.resume_reading()


@pytest.mark.parametrize("grace", [None, 3600])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_can_stop_its_server(grace: float | None, waits: bool) -> None:
    """It is not among those that it waits for."""
    servers: list[Server] = []

    async def answer(note: Note) -> Note:
        if waits:
            await asyncio.sleep(0)
        await servers[0].rpc.stop(grace)
        return note

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        servers.append(server)
        with pytest.raises(RemoteCancelled):
            await client.unary(Note())


async def test_a_connection_that_is_made_while_the_server_stops_is_closed(
    certificates: Certificates,
) -> None:
    handlers = Handlers()
    tls = certificates.client_context()
    context = certificates.server_context()
    async with serving(handlers.new_rpc, ssl=context, target="localhost:0") as server:
        loop = asyncio.get_running_loop()
        host, port = server.rpc.target.split(":")
        async with await connect(server.rpc.target, ssl=tls) as client:
            call = client.unary(Note())
            await handlers.running.acquire()
            with socket.create_connection((host, int(port))) as sock:
                sock.setblocking(False)
                # Accepted, by the time that this one is.
                await (await connect(server.rpc.target, ssl=tls)).close()
                stopping = asyncio.ensure_future(server.rpc.stop(3600))
                await asyncio.sleep(0)
                late = Peer()
                await loop.create_connection(
                    lambda: raw.Connection(loop, NoteCodec(), late, raw.Limits()),
                    sock=sock.dup(),
                    ssl=tls,
                    server_hostname="localhost",
                )
                assert await late.closed is None
            assert not stopping.done()
            call.cancel()
            await stopping
    assert len(server.services) == 2


# -- memory ------------------------------------------------------------------------------------


async def test_rpcs_leave_no_garbage_behind() -> None:
    async def answer(note: Note) -> Note:
        if note.text == "fail":
            raise ValueError
        return note

    async def rounds(client: RpcClient[Note, Note], number: int) -> None:
        for _ in range(number):
            await client.unary(Note())
            with contextlib.suppress(RemoteCancelled):
                await client.unary(Note("fail"))
            with contextlib.suppress(RemoteCancelled):
                async for _ in client.stream(Note("fail")):
                    pass
            client.unary(Note())
            client.stream(Note())

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        await rounds(client, 5)
        gc.collect()
        gc.disable()
        try:
            # A task of the loop's own kind: the test itself may run in one that makes cycles.
            await asyncio.get_running_loop().create_task(rounds(client, 50))
            await wait_until(lambda: not server.sessions[0].rpcs)
            assert gc.collect() < 50  # what the loop leaves behind does not grow with the rounds
        finally:
            gc.enable()
