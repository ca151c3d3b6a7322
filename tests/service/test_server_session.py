"""The server's side of service calls: what it accepts, answers, and tells its handlers."""

from __future__ import annotations

from typing import Any

import pytest
from service.sansio import CANCEL, END, F, RecordedHandler, Server, peer_settings
from service.tables import cells

from protosocket_rpc.errors import OutputQueueFull, ProtocolError
from protosocket_rpc.rpc.early_cancels import MAX_EARLY_CANCELS
from protosocket_rpc.rpc.message import NORMAL
from protosocket_rpc.service.limits import RpcLimits, too_large
from protosocket_rpc.service.session import FRAGMENT, WHOLE
from protosocket_rpc.wire.frame import Settings

KINDS = ("UU", "US", "SU", "SS")
LIMITS = RpcLimits(stream_window=1000, max_receive_message_size=2000, max_metadata_size=100)

GONE = [("stopped", 1, "the connection was lost")]
CANCELLED = [("stopped", 1, "the client cancelled the call")]


def ended(rpc: RecordedHandler) -> list[Any]:
    """What the handler was told, without the invitations to go on."""
    return [event for event in rpc.happened() if event not in ("readable", "sendable")]


# -- opening -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["UU", "US"])
def test_one_request_starts_the_handler(kind: str) -> None:
    server = Server(LIMITS)
    rpc = server.accepts(kind, body=b"hello", timeout_us=5, metadata=(("k", b"v"),))
    assert rpc.happened() == [("request", b"hello")]
    assert (rpc.opening.timeout_us, rpc.opening.metadata) == (5, [("k", b"v")])


@pytest.mark.parametrize("kind", ["UU", "US"])
def test_a_request_in_fragments_starts_the_handler_with_its_last_one(kind: str) -> None:
    server = Server(LIMITS)
    rpc = server.accepts(kind, body=b"he", more=True)
    assert rpc.happened() == []
    server.receives(F(1, body=b"ll", more=True))
    assert rpc.happened() == []
    server.receives(F(1, body=b"o"))
    assert rpc.happened() == [("request", b"hello")]


@pytest.mark.parametrize("kind", ["SU", "SS"])
def test_a_request_stream_opens_without_a_request(kind: str) -> None:
    server = Server(LIMITS)
    rpc = server.accepts(kind)
    assert rpc.happened() == []
    server.receives(F(1, body=b"a"), F(1, body=b""), F(1, END))
    assert rpc.happened() == ["readable"] * 3
    assert rpc.read_all() == [b"a", b""]
    assert rpc.receive is not None
    assert rpc.receive.ended


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taken_for", KINDS)
@pytest.mark.parametrize("settings", [None, peer_settings()], ids=["ids and codes", "settings"])
def test_the_opening_frame_is_of_the_methods_kind(
    kind: str, taken_for: str, settings: Settings | None
) -> None:
    server = Server(LIMITS, settings)
    body = b"x" if taken_for[0] == "U" else None
    # Only a client that has announced credit has to give it.
    credit = 10 if taken_for[1] == "S" and settings is not None else 0
    same = kind == taken_for if settings is not None else kind[0] == taken_for[0]
    server.receives(F(1, method=f"/test/{kind}", body=body, credit=credit))
    assert bool(server.session.rpcs) is same
    if same:
        assert server.sent() == []
    else:
        frame, *rest = server.sent()
        assert frame.status is not None
        assert frame.status[0] == 12
        assert rest == ([F(1, END)] if kind[1] == "S" else [])


@pytest.mark.parametrize("kind", KINDS)
def test_too_much_metadata_is_refused(kind: str) -> None:
    server = Server(LIMITS)
    server.receives(F(1, method=f"/test/{kind}", body=b"x", metadata=(("k", b"x" * 100),)))
    frame = server.sent()[0]
    text = too_large("Received metadata", 101, 100, "server", "max_metadata_size")
    assert frame.status == (8, text)
    assert not server.session.rpcs


def test_opening_frame_above_the_limit_is_answered_and_skipped() -> None:
    server = Server(LIMITS)
    frame = F(1, method="/test/UU", body=b"x" * 60000)
    server.receives(frame)
    status, end = server.sent()
    length = len(frame.encode()) - 3
    text = too_large("Received message", length, 2000, "server", "max_receive_message_size")
    assert status == F(1, status=(8, text))
    assert end == F(1, END)
    assert server.accepts("UU", id=2).happened() == [("request", b"request")]


def test_the_same_id_twice_breaks_the_protocol() -> None:
    server = Server(LIMITS)
    server.accepts("UU")
    with pytest.raises(ProtocolError, match="opened RPC 1 while it was in flight"):
        server.receives(F(1, method="/test/UU", body=b"again"))


def test_an_id_may_be_used_again_when_its_rpc_has_ended() -> None:
    server = Server(LIMITS)
    server.accepts("UU").reply(b"1", None)
    server.accepts("UU").reply(b"2", None)
    assert server.sent() == [F(1, body=b"1"), F(1, body=b"2")]


@pytest.mark.parametrize("id", [1, (1 << 64) - 1])
def test_every_id_is_good(id: int) -> None:
    server = Server(LIMITS)
    server.accepts("UU", id=id).reply(b"x", None)
    assert server.sent() == [F(id, body=b"x")]


# -- the state tables ----------------------------------------------------------------------

ARRIVALS: dict[str, Any] = {
    "request": lambda: F(1, body=b"xyz"),
    "empty request": lambda: F(1, body=b""),
    "fragment": lambda: F(1, body=b"xyz", more=True),
    "nothing but an id": lambda: F(1),
    "credit": lambda: F(1, credit=10),
    "metadata": lambda: F(1, metadata=(("late", b""),), trailers=(("late", b""),)),
    "status": lambda: F(1, status=(5, "a client has none")),
    "END": lambda: F(1, END),
    "CANCEL": lambda: F(1, CANCEL),
    "unknown code": lambda: F(1, 17),
    "too large in parts": lambda: F(1, body=b"x" * 2000, more=True),
    "too large at once": lambda: F(1, body=b"x" * 60000),
}

# A number is the status code that the RPC is stopped with. "CANCEL": answered with CANCEL.
# "-": nothing happens.
ONE_REQUEST = """
                   | in parts | running | over
request            | request  | 13      | CANCEL
empty request      | request  | 13      | CANCEL
fragment           | -        | 13      | CANCEL
nothing but an id  | -        | -       | CANCEL
credit             | -        | -       | CANCEL
metadata           | -        | -       | CANCEL
status             | -        | -       | CANCEL
END                | 13       | -       | -
CANCEL             | CANCEL   | CANCEL  | -
unknown code       | CANCEL   | CANCEL  | -
too large in parts | 8        | 13      | CANCEL
too large at once  | 8        | 8       | 8
"""

REQUEST_STREAM = """
                   | open     | in parts | half-closed | over
request            | readable | readable | 13          | CANCEL
empty request      | readable | readable | 13          | CANCEL
fragment           | -        | -        | 13          | CANCEL
nothing but an id  | -        | -        | -           | CANCEL
credit             | -        | -        | -           | CANCEL
metadata           | -        | -        | -           | CANCEL
status             | -        | -        | -           | CANCEL
END                | end      | 13       | -           | -
CANCEL             | CANCEL   | CANCEL   | CANCEL      | -
unknown code       | CANCEL   | CANCEL   | CANCEL      | -
too large in parts | -        | 8        | 13          | CANCEL
too large at once  | 8        | 8        | 8           | 8
"""


@pytest.mark.parametrize(
    ("kind", "arrival", "state", "expected"),
    [(kind, *cell) for kind in ("UU", "US") for cell in cells(ONE_REQUEST)]
    + [(kind, *cell) for kind in ("SU", "SS") for cell in cells(REQUEST_STREAM)],
)
def test_every_frame_in_every_state(kind: str, arrival: str, state: str, expected: str) -> None:
    server = Server(LIMITS, peer_settings())
    if state == "in parts" and kind[0] == "U":
        rpc = server.accepts(kind, body=b"abc", more=True)
    else:
        rpc = server.accepts(kind)
    if state == "in parts" and kind[0] == "S":
        server.receives(F(1, body=b"abc", more=True))
    elif state == "half-closed":
        server.receives(F(1, END))
    elif state == "over":
        rpc.fail(3, "over")
    rpc.happened()
    server.sent()

    server.receives(ARRIVALS[arrival]())

    events, sent = rpc.happened(), server.sent()
    if expected == "-":
        assert (events, sent) == ([], [])
    elif expected == "CANCEL":
        assert sent == [F(1, CANCEL)]
        assert [event for event in events if event[0] == "stopped"] == (
            [] if state == "over" else CANCELLED
        )
    elif expected in ("request", "readable"):
        body = (b"abc" if state == "in parts" else b"") + (b"xyz" if arrival == "request" else b"")
        if expected == "request":
            assert events == [("request", body)]
        else:
            assert events == ["readable"]
            assert rpc.read_all() == [body]
        assert sent == []
    elif expected == "end":
        assert events == ["readable"]
        assert rpc.receive is not None
        assert rpc.receive.ended
    else:
        assert sent[0].status is not None
        assert sent[0].status[0] == int(expected)
        # END follows for a stream; and when it is not known whether it is one.
        assert sent[1:] == ([F(1, END)] if kind[1] == "S" or state == "over" else [])
        stopped = [event[:2] for event in events if event[0] == "stopped"]
        assert stopped == ([] if state == "over" else [("stopped", int(expected))])
    assert (1 in server.session.rpcs) == (not rpc.ended)
    # Nobody else is concerned.
    server.accepts("UU", id=2).reply(b"fine", None)
    assert server.sent() == [F(2, body=b"fine")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancel_that_overtakes_its_opening_frame_is_its_answer(kind: str) -> None:
    server = Server(LIMITS)
    server.receives(F(7, CANCEL), F(7, CANCEL))
    other = server.accepts("UU", id=6)
    assert server.sent() == []
    opening = F(7, method=f"/test/{kind}", body=None if kind[0] == "S" else b"x")
    server.receives(opening)
    assert server.sent() == [F(7, CANCEL)]
    assert server.session.accepted == [other]
    assert server.session.last_id == 7
    server.receives(opening)  # the id is free, as after any answer
    assert [rpc.id for rpc in server.session.accepted] == [6, 7]


def test_a_late_cancel_does_not_cancel_its_id_s_next_user() -> None:
    server = Server(LIMITS)
    server.accepts("UU", id=5).reply(b"a", None)
    server.receives(F(5, CANCEL))
    server.accepts("UU", id=5).reply(b"b", None)
    assert server.sent() == [F(5, body=b"a"), F(5, body=b"b")]


def test_no_more_than_max_early_cancels_are_remembered() -> None:
    server = Server(LIMITS)
    ids = range(1, MAX_EARLY_CANCELS + 3)
    server.receives(*(F(id, CANCEL) for id in ids))
    server.receives(*(F(id, method="/test/UU", body=b"x") for id in ids))
    assert [rpc.id for rpc in server.session.accepted] == [1, 2]  # the oldest are forgotten
    assert server.sent() == [F(id, CANCEL) for id in ids[2:]]


def test_end_and_cancel_of_an_rpc_that_never_was() -> None:
    server = Server(LIMITS)
    server.receives(F(1, END), F(2, CANCEL))
    assert server.sent() == []


def test_nobody_is_left_to_hang_on_an_rpc_that_is_not_there() -> None:
    server = Server(LIMITS)
    server.receives(F(9, body=b"hello?"))
    assert server.sent() == [F(9, CANCEL)]


def test_an_opening_frame_has_the_code_normal() -> None:
    server = Server(LIMITS)
    server.receives(F(1, END, method="/test/UU", body=b"x"), F(2, CANCEL, method="/test/UU"))
    assert (server.sent(), server.session.accepted) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_client_stops_the_handler(kind: str) -> None:
    server = Server(LIMITS)
    rpc = server.accepts(kind)
    rpc.happened()
    server.loses(OSError("cable cut"))
    assert ended(rpc) == GONE
    rpc.fail(1, "nobody hears this")
    rpc.stop(1, "nor this")
    assert ended(rpc) == []


# -- answers -------------------------------------------------------------------------------


def test_unary_reply_is_one_frame() -> None:
    server = Server(LIMITS)
    server.accepts("UU").reply(b"reply", None)
    server.accepts("SU", id=2).reply(b"", [("t", b"1")])
    assert server.sent() == [F(1, body=b"reply"), F(2, body=b"", trailers=(("t", b"1"),))]
    assert not server.session.rpcs


def test_a_stream_is_messages_then_end() -> None:
    server = Server(LIMITS)
    rpc = server.accepts("US")
    assert rpc.write_message(b"a")
    assert rpc.write_message(b"b")
    rpc.end_stream([("t", b"1")])
    assert server.sent() == [F(1, body=b"a"), F(1, body=b"b"), F(1, END, trailers=(("t", b"1"),))]
    assert not server.session.rpcs


def test_a_status_travels_on_a_normal_frame_and_end_follows_on_a_stream() -> None:
    server = Server(LIMITS)
    server.accepts("UU").fail(5, "none", (), [("t", b"1")])
    server.accepts("US", id=2).fail(5, "none")
    assert server.sent() == [
        F(1, status=(5, "none"), trailers=(("t", b"1"),)),
        F(2, status=(5, "none")),
        F(2, END),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["answer", "fail", "stop", "cancel", "lose"])
@pytest.mark.parametrize("second", ["answer", "fail", "stop", "cancel", "lose"])
def test_exactly_one_answer(kind: str, end: str, second: str) -> None:
    server = Server(LIMITS)
    rpc = server.accepts(kind)

    def act(what: str) -> None:
        if what == "answer":
            rpc.reply(b"x", None) if kind[1] == "U" else rpc.end_stream(None)
        elif what == "fail":
            rpc.fail(2, "")
        elif what == "stop":
            rpc.stop(4, "")
        elif what == "cancel":
            server.receives(F(1, CANCEL))
        else:
            server.loses()

    act(end)
    answers = server.sent()
    assert len([f for f in answers if f.code != END or f.status is None]) >= (end != "lose")
    stopped = len(ended(rpc)[1:] if kind[0] == "U" else ended(rpc))
    assert stopped == (end in ("stop", "cancel", "lose"))
    if not server.connection.closing or second in ("answer", "fail", "stop"):
        act(second)
    assert server.sent() == []
    assert ended(rpc) == []


def test_initial_metadata_goes_at_once_to_a_peer_that_has_settings() -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("UU")
    rpc.send_initial_pairs([("m", b"1")])
    assert server.sent() == [F(1, metadata=(("m", b"1"),))]
    rpc.reply(b"x", None)
    assert server.sent() == [F(1, body=b"x")]


@pytest.mark.parametrize("answer", ["reply", "status", "message", "end"])
def test_and_with_the_first_frame_to_one_that_has_none(answer: str) -> None:
    server = Server(LIMITS)
    rpc = server.accepts("UU" if answer in ("reply", "status") else "US")
    rpc.send_initial_pairs([("m", b"1")])
    assert server.sent() == []
    if answer == "reply":
        rpc.reply(b"x", [("t", b"2")])
    elif answer == "status":
        rpc.fail(5, "", (), [("t", b"2")])
    elif answer == "message":
        rpc.write_message(b"x")
        rpc.write_message(b"y")
    else:
        rpc.end_stream(None)
    assert [frame.metadata for frame in server.sent()] == [(("m", b"1"),), ()][
        : 2 if answer == "message" else 1
    ]


def test_an_answer_that_cannot_be_sent_ends_the_connection() -> None:
    server = Server(LIMITS)
    rpc, other = server.accepts("UU"), server.accepts("SS", id=2)
    server.connection.full = True
    rpc.reply(b"x", None)
    assert isinstance(server.connection.cause, OutputQueueFull)
    server.loses(server.connection.cause)
    assert ended(other) == GONE


def test_a_large_reply_leaves_in_fragments_and_ends_with_the_last() -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("UU")
    rpc.reply(bytes(5 * FRAGMENT) + b"rest", [("t", b"1")])
    assert not rpc.ended
    server.turns()
    assert server.sent() == [
        *[F(1, body=bytes(FRAGMENT), more=True)] * 5,
        F(1, body=b"rest", trailers=(("t", b"1"),)),
    ]
    assert rpc.ended


def test_a_reply_that_may_leave_whole_does_so_at_once_unless_others_wait() -> None:
    server = Server(LIMITS, peer_settings())
    first, larger, last = (server.accepts("UU", id) for id in (1, 2, 3))
    first.reply(bytes(WHOLE), [("t", b"1")])
    assert server.sent() == [F(1, body=bytes(WHOLE), trailers=(("t", b"1"),))]
    assert first.ended
    larger.reply(bytes(WHOLE + 1), None)
    last.reply(bytes(WHOLE), None)
    assert server.sent() == []
    assert not last.ended
    server.turns()
    assert last.ended
    assert F(3, body=bytes(WHOLE)) in server.sent()


@pytest.mark.parametrize("end", ["stop", "cancel", "lose"])
def test_a_large_reply_may_be_stopped(end: str) -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("UU")
    rpc.reply(bytes(20 * FRAGMENT), None)
    server.turn()
    assert all(frame.more for frame in server.sent())
    if end == "stop":
        rpc.stop(4, "late")
        assert server.sent() == [F(1, status=(4, "late"))]
    elif end == "cancel":
        server.receives(F(1, CANCEL))
        assert server.sent() == [F(1, CANCEL)]
    else:
        server.loses()
    assert rpc.ended
    server.turns()
    assert server.sent() == []


def test_large_bodies_are_whole_for_a_peer_that_takes_no_fragments() -> None:
    for server in (Server(LIMITS), Server(LIMITS, peer_settings(fragments=False))):
        server.accepts("UU").reply(bytes(20 * FRAGMENT), None)
        assert server.sent() == [F(1, body=bytes(20 * FRAGMENT))]


@pytest.mark.parametrize(
    ("max_frame_size", "fragment"),
    [(1, 4096), (10_000, 5000), (100_000, 50_000), (0, FRAGMENT), (1 << 40, FRAGMENT)],
)
def test_fragments_fit_into_the_peers_frames(max_frame_size: int, fragment: int) -> None:
    server = Server(LIMITS, peer_settings(max_frame_size=max_frame_size))
    server.accepts("UU").reply(bytes(8 * fragment + 1), None)
    server.turns()
    assert [len(frame.body or b"") for frame in server.sent()] == [fragment] * 8 + [1]


@pytest.mark.parametrize(
    ("max_frame_size", "whole"),
    [(1, 4096), (1_000_000, 500_000), (0, WHOLE), (1 << 40, WHOLE)],
)
def test_a_body_that_fits_leaves_in_one_piece_when_it_is_its_turn(
    max_frame_size: int, whole: int
) -> None:
    server = Server(LIMITS, peer_settings(max_frame_size=max_frame_size))
    for id, size in ((1, whole), (2, whole + 1), (3, whole)):
        server.accepts("UU", id).reply(bytes(size), None)
    server.turns()
    frames = server.sent()
    sizes: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for frame in frames:
        sizes[frame.id].append(len(frame.body or b""))
    assert sizes[1] == sizes[3] == [whole]
    assert len(sizes[2]) > 1
    assert sum(sizes[2]) == whole + 1


# -- the end of the connection -------------------------------------------------------------


def test_going_away_says_which_rpcs_were_taken() -> None:
    server = Server(LIMITS)
    server.accepts("SU", id=5)
    server.accepts("SU", id=3)
    server.session.go_away("restarting")
    server.session.go_away("twice")
    assert server.sent() == [F(0, END, go_away=(5, "restarting"))]


@pytest.mark.parametrize("peer", [None, peer_settings()], ids=["no settings", "settings"])
def test_what_comes_after_is_refused_unless_it_was_counted_as_taken(peer: Settings | None) -> None:
    server = Server(LIMITS, peer)
    server.accepts("SU", id=5)
    server.session.go_away("")
    server.sent()
    server.receives(F(6, method="/test/UU", body=b"x"))
    assert server.sent() == [F(6, status=(14, "the server is going away")), F(6, END)]
    server.receives(F(2, method="/test/UU", body=b"x"))
    assert [rpc.id for rpc in server.session.accepted] == [5, 2]
    server.session.accepted[1].reply(b"y", None)
    assert server.sent() == [F(2, body=b"y")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["answer", "large answer", "fail", "stop", "cancel"])
def test_the_last_answer_leaves_before_the_connection_closes(kind: str, end: str) -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts(kind)
    server.session.go_away("")
    server.sent()
    assert server.session.drained == 0
    if end in ("answer", "large answer"):
        body = b"x" if end == "answer" else bytes(8 * FRAGMENT)
        if kind[1] == "U":
            rpc.reply(body, None)
        else:
            rpc.write_message(body)
            server.turns()
            rpc.end_stream(None)
        server.turns()
    elif end == "fail":
        rpc.fail(2, "")
    elif end == "stop":
        rpc.stop(4, "")
    else:
        server.receives(F(1, CANCEL))
    last = server.sent()[-1]
    assert last.id == 1
    assert not last.more
    assert server.session.drained == 1
    assert server.connection.closing


# -- the connection itself -----------------------------------------------------------------


def test_a_ping_is_answered() -> None:
    server = Server(LIMITS)
    server.receives(F(0, END, ping=0), F(0, END, ping=5))
    assert server.sent() == [F(0, END, pong=0), F(0, END, pong=5)]


def test_normal_frame_without_an_id_breaks_the_protocol() -> None:
    server = Server(LIMITS)
    with pytest.raises(ProtocolError, match="without an id"):
        server.receives(F(0, NORMAL, method="/test/UU", body=b"x"))
