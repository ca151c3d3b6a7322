"""The client's side of service calls: what it sends, and what becomes of an RPC."""

from __future__ import annotations

from typing import Any

import pytest
from service.sansio import CANCEL, END, SETTINGS, Client, F, RecordedCall, peer_settings
from service.tables import cells

from protosocket_rpc.errors import ConnectionClosed, OutputQueueFull, ProtocolError
from protosocket_rpc.rpc.message import NORMAL
from protosocket_rpc.service.limits import CREDIT_BEFORE_SETTINGS, RpcLimits
from protosocket_rpc.service.session import FRAGMENT
from protosocket_rpc.wire.frame import encode_frame, settings_field, timeout_field
from protosocket_rpc.wire.metadata import metadata_field

KINDS = ("UU", "US", "SU", "SS")
LIMITS = RpcLimits(stream_window=1000, max_receive_message_size=2000, max_metadata_size=100)


# -- opening -------------------------------------------------------------------------------


def test_unary_call_is_one_frame() -> None:
    client = Client(LIMITS)
    client.opens("UU", b"hello")
    assert client.sent() == [F(1, method="/test/UU", body=b"hello")]


def test_bytes_of_a_unary_call() -> None:
    client = Client(LIMITS)
    client.opens("UU", b"hello")
    assert client.sent_bytes().hex(" ") == (
        "13 08 01 1a 08 2f 74 65 73 74 2f 55 55 22 05 68 65 6c 6c 6f"
    )


def test_server_stream_says_how_far_its_answer_may_run_ahead() -> None:
    client = Client(LIMITS)
    client.opens("US", b"hello")
    assert client.sent() == [F(1, method="/test/US", body=b"hello", credit=1000)]


def test_request_stream_opens_without_a_body() -> None:
    client = Client(LIMITS)
    client.opens("SU")
    client.opens("SS")
    assert client.sent() == [F(1, method="/test/SU"), F(2, method="/test/SS", credit=1000)]


def test_empty_request_is_a_request() -> None:
    client = Client(LIMITS)
    client.opens("UU", b"")
    assert client.sent() == [F(1, method="/test/UU", body=b"")]


def test_timeout_and_metadata_go_with_the_opening_frame() -> None:
    client = Client(LIMITS)
    pairs = [("key", b"value"), ("key", b"again"), ("data-bin", b"\x00\xff")]
    client.opens("UU", b"x", timeout_field(1500) + metadata_field(pairs))
    expected = F(1, method="/test/UU", body=b"x", timeout_us=1500, metadata=tuple(pairs))
    assert client.sent() == [expected]


def test_ids_are_never_used_again() -> None:
    client = Client(LIMITS)
    for id in range(1, 5):
        client.opens("UU")
        client.receives(F(id, body=b"reply"))
    assert [frame.id for frame in client.sent()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("in_flight", "answered", "paced"),
    [(1, 1, 1), (4, 2, 8), (16, 16, 16), (16, 8, 32), (16, 9, 16)],
)
def test_requests_leave_in_one_write_while_the_server_has_as_much_to_do(
    in_flight: int, answered: int, paced: int
) -> None:
    client = Client(LIMITS, peer_settings())
    for _ in range(in_flight):
        client.opens("UU")
    client.receives(*(F(id, body=b"reply") for id in range(1, answered + 1)))
    assert client.connection.in_flight == paced


def test_open_on_a_lost_connection_leaves_the_call_as_it_was() -> None:
    client = Client(LIMITS, peer_settings())
    client.loses()
    for kind in KINDS:
        call = RecordedCall(kind)
        body = None if call.streams_requests else b"x"
        for size in (1, FRAGMENT + 1):
            with pytest.raises(ConnectionClosed):
                client.session.open(call, b"", body and body * size, b"")
            assert (call.session, call.send, call.happened()) == (None, None, [])
            assert not client.session.rpcs


def test_open_on_a_full_connection_leaves_the_others_alone() -> None:
    client = Client(LIMITS)
    first = client.opens("UU")
    client.connection.full = True
    call = RecordedCall("UU")
    with pytest.raises(OutputQueueFull):
        client.session.open(call, b"", b"x", b"")
    call.abandon(8, "full")
    assert not client.connection.closing
    assert call.happened() == [("finished", 8, "full")]
    assert first.happened() == []


# -- the state tables ----------------------------------------------------------------------

ARRIVALS: dict[str, Any] = {
    "message": lambda id: F(id, body=b"xyz"),
    "empty message": lambda id: F(id, body=b""),
    "fragment": lambda id: F(id, body=b"xyz", more=True),
    "message, trailers": lambda id: F(id, body=b"xyz", trailers=(("t", b"1"),)),
    "initial metadata": lambda id: F(id, metadata=(("m", b"1"),)),
    "nothing but an id": lambda id: F(id),
    "credit": lambda id: F(id, credit=10),
    "status": lambda id: F(id, status=(5, "not found")),
    "status, message": lambda id: F(id, body=b"xyz", status=(5, "not found")),
    "unknown status": lambda id: F(id, status=(99, "what?")),
    "OK, no message": lambda id: F(id, status=(0, "")),
    "END": lambda id: F(id, END),
    "END, trailers": lambda id: F(id, END, trailers=(("t", b"1"),)),
    "END, status": lambda id: F(id, END, status=(5, "not found")),
    "CANCEL": lambda id: F(id, CANCEL),
    "unknown code": lambda id: F(id, 17),
    "too much metadata": lambda id: F(id, metadata=(("m", b"x" * 100),)),
    "too large in parts": lambda id: F(id, body=b"x" * 2000, more=True),
    "too large at once": lambda id: F(id, body=b"x" * 60000),
}

# A number is the status code that the RPC ends with; "+ CANCEL": the server is told so.
# "reply" is a good end; "message" one that can be read; "more" that the rest has to come.
ONE_REPLY = """
                  | waiting     | in parts    | over
message           | reply       | reply       | late
empty message     | reply       | reply       | late
fragment          | more        | more        | late
message, trailers | reply       | reply       | late
initial metadata  | metadata    | more        | late
nothing but an id | more        | more        | late
credit            | more        | more        | late
status            | 5           | 5           | late
status, message   | 5           | 5           | late
unknown status    | 99          | 99          | late
OK, no message    | 13          | 13          | late
END               | 13          | 13          | late
END, trailers     | 13          | 13          | late
END, status       | 5           | 5           | late
CANCEL            | 1           | 1           | late
unknown code      | 1           | 1           | late
too much metadata | 8 + CANCEL  | 8 + CANCEL  | late
too large in parts| more        | 8 + CANCEL  | late
too large at once | 8 + CANCEL  | 8 + CANCEL  | late
"""

STREAM = """
                  | waiting     | in parts    | over
message           | message     | message     | late
empty message     | message     | message     | late
fragment          | more        | more        | late
message, trailers | message     | message     | late
initial metadata  | metadata    | more        | late
nothing but an id | more        | more        | late
credit            | more        | more        | late
status            | 5           | 5           | late
status, message   | 5           | 5           | late
unknown status    | 99          | 99          | late
OK, no message    | more        | more        | late
END               | 0           | 13          | late
END, trailers     | 0           | 13          | late
END, status       | 5           | 5           | late
CANCEL            | 1           | 1           | late
unknown code      | 1           | 1           | late
too much metadata | 8 + CANCEL  | 8 + CANCEL  | late
too large in parts| more        | 8 + CANCEL  | late
too large at once | 8 + CANCEL  | 8 + CANCEL  | late
"""


@pytest.mark.parametrize(
    ("kind", "arrival", "state", "expected"),
    [(kind, *cell) for kind in ("UU", "SU") for cell in cells(ONE_REPLY)]
    + [(kind, *cell) for kind in ("US", "SS") for cell in cells(STREAM)],
)
def test_every_frame_in_every_state(kind: str, arrival: str, state: str, expected: str) -> None:
    client = Client(LIMITS, peer_settings())
    bystander = client.opens("UU")
    call = client.opens(kind)
    if state == "in parts":
        client.receives(F(2, body=b"abc", more=True))
    elif state == "over":
        client.receives(F(2, status=(3, "over")))
        assert call.happened()[-1] == ("finished", 3, "over")
    client.sent()
    call.happened()

    client.receives(ARRIVALS[arrival](2))

    events = [event for event in call.happened() if event != "metadata"]
    cancelled = F(2, CANCEL) in client.sent()
    if expected == "late":
        assert events == []
    elif expected in ("more", "metadata"):
        assert events == []
        assert not call.finished
        assert (call.initial_metadata_pairs == [("m", b"1")]) == (expected == "metadata")
    elif expected in ("message", "reply"):
        start = b"abc" if state == "in parts" else b""
        body = start + (b"" if arrival == "empty message" else b"xyz")
        if expected == "reply":
            assert events == [("reply", body)]
        else:
            assert events == ["readable"]
            assert call.read_all() == [body]
        assert call.finished == (expected == "reply")
        assert call.trailers == ([("t", b"1")] if arrival == "message, trailers" else None)
    else:
        number = int(expected.split()[0])
        (outcome,) = [event for event in events if event != "readable"]
        assert outcome[:2] == ("finished", number)
        assert call.finished
        assert cancelled == expected.endswith("+ CANCEL")
    assert (2 in client.session.rpcs) == (not call.finished)
    # Nothing of this is anybody else's business.
    assert bystander.happened() == []
    client.receives(F(1, body=b"reply"))
    assert bystander.happened() == [("reply", b"reply")]


@pytest.mark.parametrize("kind", KINDS)
def test_lost_connection_is_unavailable(kind: str) -> None:
    client = Client(LIMITS)
    call = client.opens(kind)
    client.loses(OSError("cable cut"))
    assert call.outcomes() == [
        ("finished", 14, "the connection was lost before the call had ended: cable cut")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_abandoned_call_tells_the_server_and_hears_no_more(kind: str) -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens(kind)
    client.sent()
    call.abandon(4, "late")
    call.abandon(1, "twice")
    assert client.sent() == [F(1, CANCEL)]
    client.receives(F(1, body=b"too late"), F(1, CANCEL), F(1, END))
    client.loses()
    assert call.outcomes() == [("finished", 4, "late")]


@pytest.mark.parametrize("kind", KINDS)
def test_abandoned_although_nothing_can_be_sent(kind: str) -> None:
    client = Client(LIMITS)
    call, other = client.opens(kind), client.opens("UU")
    client.connection.full = True
    call.abandon(4, "late")
    assert call.outcomes() == [("finished", 4, "late")]
    # The server is not to be told; it has let 256 MiB lie unread.
    assert isinstance(client.connection.cause, OutputQueueFull)
    other.abandon(4, "late")
    assert other.outcomes() == [("finished", 4, "late")]


def test_initial_metadata_is_known_with_the_first_message() -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens("US")
    client.receives(F(1, body=b"first"))
    assert call.initial_metadata_pairs == []
    assert call.happened() == ["metadata", "readable"]
    client.receives(F(1, body=b"next", metadata=(("late", b"x"),)))
    assert call.initial_metadata_pairs == []


def test_late_frame_for_an_id_that_never_was() -> None:
    client = Client(LIMITS, peer_settings())
    client.receives(F(7, body=b"?"), F(7, END), F(7, CANCEL), F(7, status=(1, "")))
    client.receives_bytes(F(7, body=b"x" * 60000).encode())
    assert client.sent() == []


# -- the connection itself -----------------------------------------------------------------


def test_settings_come_first() -> None:
    Client(LIMITS)  # which asserts that they were sent on opening


def test_a_ping_is_answered() -> None:
    client = Client(LIMITS)
    client.receives(F(0, END, ping=99))
    assert client.sent() == [F(0, END, pong=99)]


def test_connection_frames_of_the_future_are_ignored() -> None:
    client = Client(LIMITS)
    client.receives_bytes(encode_frame(0, END, bytes.fromhex("82 01 03 61 62 63")))  # field 16
    client.receives(F(0, CANCEL), F(0, END))
    assert client.sent() == []


def test_normal_frame_without_an_id_breaks_the_protocol() -> None:
    client = Client(LIMITS)
    with pytest.raises(ProtocolError, match="without an id"):
        client.receives(F(0, NORMAL, body=b"x"))


def test_going_away_refuses_what_was_not_taken_and_lets_the_rest_end() -> None:
    client = Client(LIMITS)
    taken, refused = client.opens("UU"), client.opens("UU")
    client.receives(F(0, END, go_away=(1, "restarting")))
    assert refused.happened() == [("finished", 14, "the server is going away: restarting")]
    assert taken.happened() == []
    assert not client.session.usable
    client.receives(F(1, body=b"reply"))
    assert taken.happened() == [("reply", b"reply")]


def test_going_away_refuses_what_has_not_left_even_if_later_ones_were_taken() -> None:
    client = Client(LIMITS, peer_settings())
    client.stalls()
    waiting = client.opens("UU", bytes(4 * FRAGMENT))
    client.opens("UU")
    client.sent()
    client.receives(F(0, END, go_away=(2, "restarting")))
    assert waiting.happened() == [("finished", 14, "the server is going away: restarting")]
    client.resumes()
    client.turns()
    assert client.sent() == []


def test_drained_when_the_last_call_is_answered() -> None:
    client = Client(LIMITS)
    client.opens("UU")
    client.receives(F(0, END, go_away=(1, "")))
    assert client.session.drained == 0
    client.receives(F(1, body=b"reply"))
    assert client.session.drained == 1


def test_drained_when_the_last_call_is_abandoned() -> None:
    client = Client(LIMITS)
    call = client.opens("US")
    client.receives(F(0, END, go_away=(1, "")))
    client.sent()
    call.abandon(1, "cancelled")
    assert client.session.drained == 1
    assert client.sent() == [F(1, CANCEL)]


# -- a stream of requests ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["SU", "SS"])
def test_items_then_half_close(kind: str) -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens(kind)
    assert call.write_message(b"a")
    assert call.write_message(b"")
    call.half_close()
    assert client.sent()[1:] == [F(1, body=b"a"), F(1, body=b""), F(1, END)]


def test_credit_before_settings() -> None:
    client = Client(LIMITS)
    call = client.opens("SU")
    assert call.write_message(b"x" * (CREDIT_BEFORE_SETTINGS - 1))
    assert call.write_message(b"1")
    client.sent()
    assert not call.write_message(b"waits")
    client.receives(SETTINGS)  # 256 KiB
    client.turns()
    assert client.sent() == [F(1, body=b"waits")]
    assert call.happened() == ["sendable"]


def test_settings_may_allow_less_than_was_sent_before_them() -> None:
    client = Client(LIMITS)
    call = client.opens("SU")
    assert call.write_message(b"x" * 100)
    client.sent()
    client.receives_bytes(settings_bytes(initial_credit=50))
    assert not call.write_message(b"y")
    client.turns()
    assert client.sent() == []
    client.receives(F(1, credit=50))
    client.turns()
    assert client.sent() == []
    client.receives(F(1, credit=1))
    client.turns()
    assert client.sent() == [F(1, body=b"y")]


def settings_bytes(**values: Any) -> bytes:
    return encode_frame(0, END, settings_field(peer_settings(**values)))


def test_server_that_sends_no_settings_takes_no_request_stream() -> None:
    client = Client(LIMITS)
    call = client.opens("SU")
    client.sent()
    client.receives(F(1, body=b"?"))
    (outcome,) = call.outcomes()
    assert outcome[:2] == ("finished", 12)
    assert client.sent() == [F(1, CANCEL)]


@pytest.mark.parametrize("kind", ["SU", "SS"])
@pytest.mark.parametrize("answer", [F(1, CANCEL), F(1, END)], ids=["cancel", "end"])
def test_however_it_answers(kind: str, answer: F) -> None:
    """protosocket-rpc takes the second message of the stream for an RPC, and refuses that first."""
    client = Client(LIMITS)
    call = client.opens(kind)
    client.sent()
    client.receives(answer)
    (outcome,) = call.outcomes()
    assert outcome[:2] == ("finished", 12)
    assert "does not take request streams" in outcome[2]
    assert client.sent() == []


def test_but_its_status_is_heard() -> None:
    client = Client(LIMITS)
    call = client.opens("SU")
    client.receives(F(1, status=(7, "no")))
    assert call.outcomes() == [("finished", 7, "no")]


def test_what_waits_is_dropped_with_the_call() -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens("SS")
    client.stalls()
    assert not call.write_message(b"waits")
    client.receives(F(1, status=(3, "enough")))
    client.sent()
    client.resumes()
    client.turns()
    assert client.sent() == []


# -- large requests ------------------------------------------------------------------------


def test_large_request_leaves_in_fragments() -> None:
    client = Client(LIMITS, peer_settings())
    body = bytes(5 * FRAGMENT) + b"rest"
    client.opens("UU", body, timeout_field(9))
    assert client.sent() == []
    client.turns()
    assert client.sent() == [
        F(1, method="/test/UU", body=bytes(FRAGMENT), timeout_us=9, more=True),
        *[F(1, body=bytes(FRAGMENT), more=True)] * 4,
        F(1, body=b"rest"),
    ]


def test_reply_before_all_of_the_request_has_left_stops_it() -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens("UU", bytes(20 * FRAGMENT))
    client.turn()
    client.receives(F(1, body=b"enough"))
    assert call.happened()[-1] == ("reply", b"enough")
    client.sent()
    client.turns()
    assert client.sent() == []
