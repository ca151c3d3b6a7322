"""Both sides' sessions with no socket and no event loop: messages in, outcomes and messages out."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from rpc.notes import CANCEL, END, NOTES, Note, NoteCodec

from protosocket_rpc.errors import (
    ConnectionClosed,
    DecodeError,
    FrameTooLarge,
    OutputQueueFull,
    ProtocolError,
    RemoteCancelled,
    RpcFinished,
)
from protosocket_rpc.raw import Connection, Limits
from protosocket_rpc.rpc.client_session import ClientSession, StreamingRpc, UnaryRpc
from protosocket_rpc.rpc.codec import EnvelopeCodec
from protosocket_rpc.rpc.early_cancels import MAX_EARLY_CANCELS
from protosocket_rpc.rpc.server_session import ServerRpc, ServerSession


class Loop:
    """Keeps what is to be called in the next turn."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def call_soon(self, callback: Any) -> None:
        self.due.append(callback)

    def turn(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


class Wire:
    """A transport whose bytes end here, and what they stand for."""

    def __init__(self, session: Any, limits: Limits | None = None) -> None:
        self.loop = Loop()
        self.reading = True
        self.closed = False
        self._bytes = b""
        self.connection: Any = Connection(
            self.loop, EnvelopeCodec(NoteCodec(), NOTES), session, limits or Limits()
        )
        self.connection.connection_made(self)

    def write(self, data: bytes) -> None:
        self._bytes += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def said(self) -> list[Note]:
        """What this side has sent since the last time that this was asked."""
        self.connection.flush()
        notes: list[Note] = []
        data, self._bytes = self._bytes, b""
        assert NoteCodec().decode(data, notes) == len(data)
        return notes

    def hear(self, *notes: Note) -> None:
        """The peer sends these, in one piece."""
        self.connection.data_received(b"".join(map(NoteCodec().encode, notes)))


class Client:
    def __init__(self, max_unread: int = 10_000, limits: Limits | None = None) -> None:
        self.session: ClientSession[Note, Note] = ClientSession(NOTES, max_unread)
        self.wire = Wire(self.session, limits)

    def unary(self, text: str = "") -> Future[Note]:
        self.rpc = UnaryRpc(self.session, Future())
        self.session.open(self.rpc, Note(text))
        future: Future[Note] = self.rpc.future
        return future

    def stream(self, text: str = "") -> StreamingRpc[Note]:
        rpc: StreamingRpc[Note] = StreamingRpc(self.session)
        self.session.open(rpc, Note(text))
        return rpc


class Task:
    """A handler, as far as a session knows one."""

    def __init__(self, rpc: ServerRpc[Note, Note], request: Note) -> None:
        self.rpc = rpc
        self.request = request
        self.told = 0

    def cancel(self) -> None:
        self.told += 1


class RecordingServer(ServerSession[Note, Note]):
    def __init__(self, max_concurrent_rpcs: int = 100) -> None:
        super().__init__(NOTES, max_concurrent_rpcs)
        self.tasks: list[Task] = []
        self.warnings: list[str] = []

    def start(self, rpc: ServerRpc[Note, Note], request: Note) -> Task:
        self.tasks.append(Task(rpc, request))
        return self.tasks[-1]

    def warn(self, text: str, *args: object) -> None:
        self.warnings.append(text % args)


# -- client ------------------------------------------------------------------------------------


def test_ids_count_up_from_one() -> None:
    client = Client()
    for text in "abc":
        client.unary(text)
    assert client.wire.said() == [Note("a", 1), Note("b", 2), Note("c", 3)]


def test_replies_find_their_rpcs_in_any_order() -> None:
    client = Client()
    first, second, third = client.unary(), client.unary(), client.unary()
    client.wire.hear(Note("3", 3), Note("1", 1), Note("2", 2))
    assert [future.result().text for future in (first, second, third)] == ["1", "2", "3"]
    assert not client.session.rpcs


def test_unary_outcomes() -> None:
    client = Client()
    ended, cancelled = client.unary(), client.unary()
    client.wire.hear(Note("", 1, END), Note("", 2, CANCEL))
    assert type(ended.exception()) is RpcFinished
    assert type(cancelled.exception()) is RemoteCancelled
    assert not client.session.rpcs


def test_stream_outcomes_come_after_its_messages() -> None:
    client = Client()
    ended, cancelled = client.stream(), client.stream()
    client.wire.hear(Note("a", 1), Note("", 1, END), Note("b", 2), Note("", 2, CANCEL))
    assert (ended.take().text, ended.ended, ended.error) == ("a", True, None)
    assert (cancelled.take().text, cancelled.ended) == ("b", True)
    assert type(cancelled.error) is RemoteCancelled
    assert not client.session.rpcs


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, ConnectionClosed),
        (ConnectionResetError("reset"), ConnectionClosed),
        (ConnectionClosed("in the middle of a message"), ConnectionClosed),
        (DecodeError("rubbish"), ProtocolError),
        (FrameTooLarge("huge"), ProtocolError),
    ],
)
def test_a_lost_connection_is_told_apart_from_a_broken_protocol(
    cause: Exception | None, expected: type[Exception]
) -> None:
    client = Client()
    unary, stream = client.unary(), client.stream()
    client.wire.connection.connection_lost(cause)
    for error in (unary.exception(), stream.error):
        assert type(error) is expected
        assert error is not None
        assert error.__cause__ is cause
    assert not client.session.rpcs


def test_each_rpc_has_its_own_exception() -> None:
    client = Client()
    first, second = client.unary(), client.unary()
    client.wire.connection.connection_lost(OSError("gone"))
    assert first.exception() is not second.exception()


def test_cancel_is_sent_once_and_late_messages_are_ignored() -> None:
    client = Client()
    future = client.unary()
    assert client.session.cancel(client.rpc)
    assert not client.session.cancel(client.rpc)
    client.wire.hear(Note("late", 1), Note("", 1, CANCEL), Note("", 1, END))
    assert client.wire.said() == [Note("", 1), Note("", 1, CANCEL)]
    assert not future.done()
    assert not client.wire.closed


def test_messages_for_ids_that_never_were_are_ignored() -> None:
    client = Client()
    client.wire.hear(Note("?", 99), Note("", 98, CANCEL), Note("", 97, END), Note("?", 0))
    assert not client.wire.closed
    assert client.wire.said() == []


def test_reading_stops_beyond_max_unread_and_goes_on_below_half_of_it() -> None:
    client = Client(max_unread=3000)
    stream = client.stream()
    heard = 0
    while client.wire.reading:
        client.wire.hear(Note("x" * 100, 1))
        heard += 1
    assert 3000 < client.session.unread < 3000 + 400
    while client.session.unread > 1500:
        assert not client.wire.reading
        stream.take()
        heard -= 1
    assert client.wire.reading
    for _ in range(heard):
        stream.take()
    assert client.session.unread == 0


def test_max_unread_is_for_all_streams_together() -> None:
    client = Client(max_unread=3000)
    first, second = client.stream(), client.stream()
    client.wire.hear(Note("x" * 1500, 1))
    assert client.wire.reading
    client.wire.hear(Note("x" * 1500, 2))
    assert not client.wire.reading
    first.take()
    second.take()
    assert client.session.unread == 0


def test_giving_a_stream_up_lets_reading_go_on() -> None:
    client = Client(max_unread=100)
    stream = client.stream()
    client.wire.hear(Note("x" * 500, 1))
    assert not client.wire.reading
    assert stream.pending
    client.session.cancel(stream)
    assert client.wire.reading
    assert client.session.unread == 0


def test_dropping_what_an_ended_stream_brought_lets_reading_go_on() -> None:
    client = Client(max_unread=100)
    stream = client.stream()
    client.wire.hear(Note("x" * 500, 1), Note("", 1, END))
    assert stream.pending
    assert not client.session.cancel(stream)
    assert client.wire.reading
    assert not stream.pending
    assert client.wire.said() == [Note("", 1)]  # it had ended: nothing to cancel


def test_a_cancel_that_finds_the_queue_full_leaves_later() -> None:
    client = Client(limits=Limits(max_queued_output=1))
    client.unary()
    rpc = client.rpc
    client.wire.said()
    client.wire.connection.pause_writing()
    client.unary()  # fills the queue
    with pytest.raises(OutputQueueFull):
        client.unary()
    client.session.cancel(rpc)
    client.wire.connection.resume_writing()
    client.wire.loop.turn()
    assert client.wire.said() == [Note("", 2), Note("", 1, CANCEL)]
    assert list(client.session.rpcs) == [2]


def test_a_cancel_on_a_connection_that_is_closing_is_needless() -> None:
    client = Client()
    client.unary()
    client.wire.said()
    client.wire.connection.close()
    assert client.session.cancel(client.rpc)
    assert not client.session.rpcs


def test_an_rpc_whose_request_cannot_be_sent_is_not_in_flight() -> None:
    client = Client()
    with pytest.raises(TypeError):
        client.session.open(UnaryRpc(client.session, Future()), object())  # type: ignore[arg-type]  # that is the point
    client.wire.connection.connection_lost(None)
    with pytest.raises(ConnectionClosed):
        client.unary()
    assert not client.session.rpcs


# -- server ------------------------------------------------------------------------------------


def test_a_reply_bears_its_request_s_id_and_ends_the_rpc() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("a", 5), Note("b", 9))
    first, second = server.tasks
    assert (first.request.text, second.request.text) == ("a", "b")
    second.rpc.reply(Note("for b", id=1234))
    first.rpc.reply(Note("for a"))
    assert wire.said() == [Note("for b", 9), Note("for a", 5)]
    assert not server.rpcs


def test_a_stream_is_its_items_then_end() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 5))
    rpc = server.tasks[0].rpc
    rpc.send(Note("1"))
    rpc.send(Note("2"))
    rpc.finish()
    assert wire.said() == [Note("1", 5), Note("2", 5), Note("", 5, END)]
    assert not server.rpcs


def endings(rpc: ServerRpc[Note, Note]) -> list[Any]:
    note = Note("", 5)
    return [
        lambda: rpc.reply(Note()),
        rpc.finish,
        rpc.fail,
        rpc.cancel,
        lambda: rpc.on_cancel(note),  # type: ignore[arg-type]  # an envelope, but it is not looked at
        lambda: rpc.on_lost(None),
    ]


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_whatever_ends_an_rpc_ends_it_once(first: int, second: int) -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 5))
    task = server.tasks[0]
    endings(task.rpc)[first]()
    answers = wire.said()
    assert len(answers) == (0 if first == 5 else 1)
    told = task.told
    assert told == (1 if first >= 3 else 0)
    endings(task.rpc)[second]()
    task.rpc.send(Note("more"))
    assert wire.said() == []
    assert task.told == told


def test_a_cancel_tells_the_handler_and_is_answered_with_cancel() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 5), Note("", 5, CANCEL))
    assert server.tasks[0].told == 1
    assert wire.said() == [Note("", 5, CANCEL)]
    wire.hear(Note("", 5, CANCEL))
    assert server.tasks[0].told == 1
    assert wire.said() == []


def test_a_cancel_that_overtakes_its_request_is_its_answer() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 7, CANCEL), Note("", 7, CANCEL), Note("before", 6))
    assert wire.said() == []
    wire.hear(Note("cancelled", 7), Note("after", 8))
    assert wire.said() == [Note("", 7, CANCEL)]
    assert [task.request.text for task in server.tasks] == ["before", "after"]
    assert sorted(server.rpcs) == [6, 8]
    wire.hear(Note("again", 7))  # it is free, as after any answer
    assert server.tasks[-1].request.text == "again"


def test_a_late_cancel_does_not_cancel_its_id_s_next_user() -> None:
    server = RecordingServer(max_concurrent_rpcs=1)
    wire = Wire(server)
    wire.hear(Note("a", 5), Note("refused", 6))
    server.tasks[0].rpc.reply(Note())
    wire.hear(Note("", 5, CANCEL), Note("", 6, CANCEL), Note("b", 5))
    server.tasks[1].rpc.reply(Note())
    wire.hear(Note("c", 6))
    assert [task.request.text for task in server.tasks] == ["a", "b", "c"]


def test_no_more_than_max_early_cancels_are_remembered() -> None:
    server = RecordingServer(max_concurrent_rpcs=10)
    wire = Wire(server)
    ids = range(1, MAX_EARLY_CANCELS + 3)
    wire.hear(*(Note("", id, CANCEL) for id in ids), *(Note("", id) for id in ids))
    assert [task.rpc.id for task in server.tasks] == [1, 2]  # the oldest are forgotten
    assert wire.said() == [Note("", id, CANCEL) for id in ids[2:]]


def test_an_end_from_the_client_is_ignored() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 5), Note("", 5, END), Note("", 6, END))
    assert server.tasks[0].told == 0
    assert wire.said() == []
    server.tasks[0].rpc.reply(Note("still here"))
    assert wire.said() == [Note("still here", 5)]


def test_an_unknown_control_code_opens_nothing_and_cancels() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 4, 77), Note("", 5), Note("", 5, 77))
    assert [task.told for task in server.tasks] == [1]
    assert wire.said() == [Note("", 5, CANCEL)]


def test_an_id_used_twice_cancels_both_with_one_answer() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("first", 5), Note("other", 6), Note("second", 5))
    assert [task.request.text for task in server.tasks] == ["first", "other"]
    assert [task.told for task in server.tasks] == [1, 0]
    assert wire.said() == [Note("", 5, CANCEL)]
    assert server.warnings == ["RPC 5 is cancelled: its id was used again while in flight"]
    wire.hear(Note("third", 5))  # it is free again
    assert server.tasks[-1].request.text == "third"


def test_an_id_may_be_used_again_after_the_answer() -> None:
    server = RecordingServer()
    wire = Wire(server)
    for text in "ab":
        wire.hear(Note(text, 5))
        server.tasks[-1].rpc.reply(Note(text))
    assert wire.said() == [Note("a", 5), Note("b", 5)]
    server.tasks[0].rpc.fail()
    assert wire.said() == []


def test_an_ended_rpc_leaves_its_id_s_next_user_alone() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("a", 5), Note("", 5, CANCEL), Note("b", 5))
    wire.said()
    server.tasks[0].rpc.reply(Note("too late"))
    server.tasks[1].rpc.reply(Note("b"))
    assert wire.said() == [Note("b", 5)]


def test_rpcs_beyond_max_concurrent_rpcs_are_refused() -> None:
    server = RecordingServer(max_concurrent_rpcs=2)
    wire = Wire(server)
    wire.hear(Note("", 1), Note("", 2), Note("", 3))
    assert len(server.tasks) == 2
    assert wire.said() == [Note("", 3, CANCEL)]
    assert server.warnings == ["RPC 3 is refused: max_concurrent_rpcs is 2"]
    server.tasks[0].rpc.reply(Note())
    wire.hear(Note("", 4))
    assert len(server.tasks) == 3


def test_a_draining_session_refuses_what_is_new() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 1))
    server.draining = True
    wire.hear(Note("", 2), Note("", 2, CANCEL))
    assert wire.said() == [Note("", 2, CANCEL)]
    server.tasks[0].rpc.reply(Note("done"))
    assert wire.said() == [Note("done", 1)]


def test_a_lost_connection_tells_every_handler_once() -> None:
    server = RecordingServer()
    wire = Wire(server)
    wire.hear(Note("", 1), Note("", 2))
    wire.connection.connection_lost(OSError("gone"))
    assert [task.told for task in server.tasks] == [1, 1]
    server.cancel_all()
    assert [task.told for task in server.tasks] == [1, 1]


def test_a_refusal_that_finds_the_queue_full_leaves_later() -> None:
    server = RecordingServer(max_concurrent_rpcs=1)
    wire = Wire(server, Limits(max_queued_output=1))
    wire.hear(Note("", 1))
    wire.connection.pause_writing()
    server.tasks[0].rpc.send(Note("fills the queue"))
    wire.hear(Note("", 2), Note("", 3))
    assert not wire.closed
    wire.connection.resume_writing()
    wire.loop.turn()
    assert wire.said() == [Note("fills the queue", 1), Note("", 2, CANCEL), Note("", 3, CANCEL)]
