"""The state tables of docs/wire.md: every row, in each of its states, for each kind of RPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from service.sansio import CANCEL, END, Client, F, RecordedCall, RecordedHandler, Server
from service.sansio import peer_settings as settings_of_peer
from support import ROOT

from protosocket_rpc.errors import ProtocolError
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.status import StatusCode

TEXT = (ROOT / "docs" / "wire.md").read_text()
LIMITS = RpcLimits(max_receive_message_size=1000, max_metadata_size=100, stream_window=1000)
ABOVE_MESSAGE = bytes(LIMITS.max_receive_message_size + 1)
ABOVE_FRAME = bytes(LIMITS.max_frame_size)
ABOVE_METADATA = (("key", bytes(LIMITS.max_metadata_size)),)
KINDS = ("UU", "US", "SU", "SS")


def rows(heading: str) -> list[Any]:
    """Each row once for each of its states, and each kind of RPC that can be in it."""
    params = []
    table = TEXT[TEXT.index(f"### {heading}") :].split("\n\n")[1]
    for line in table.splitlines()[2:]:
        states, event, action, then = (cell.strip() for cell in line.strip("|").split("|"))
        for state in states.split(", "):
            for kind in KINDS:
                if fits(heading, kind, state, event):
                    id = f"{kind} {state}: {event}"
                    params.append(pytest.param(kind, state, event, action, then, id=id))
    return params


def fits(heading: str, kind: str, state: str, event: str) -> bool:
    requests, replies = kind
    if "one request" in event and requests != "U":
        return False
    if "request stream" in event and requests != "S":
        return False
    if ("one reply due" in event or "returns" in event) and replies != "U":
        return False
    many = "reply stream" in event or "yields" in event or "ends its replies" in event
    if many and replies != "S":
        return False
    if "client" in heading:
        return state != "sending" or requests == "S"
    if "handler" in event and state == "receiving" and requests == "U":
        return False  # it has not been started
    return "`credit`" not in event or replies == "S"


def test_every_row_is_run() -> None:
    for heading in ("The client's side of an RPC", "The server's side of an RPC"):
        lines = TEXT[TEXT.index(f"### {heading}") :].split("\n\n")[1].splitlines()[2:]
        run = {(param.values[2], param.values[3]) for param in rows(heading)}
        assert len(run) == len({tuple(line.split("|")[2:4]) for line in lines})


def check_sent(kind: str, id: int, actions: list[str], sent: list[F]) -> None:
    """What was sent is what these actions say, and no more."""
    for action in actions:
        what = action.removeprefix("send ")
        if what in ("CANCEL", "END"):
            assert sent.pop(0) == F(id, CANCEL if what == "CANCEL" else END)
        elif what.startswith("NORMAL"):
            frame = sent.pop(0)
            assert (frame.id, frame.code, frame.status) == (id, 0, None)
            assert bool(frame.method) == ("`method`" in what)
            assert (frame.body is not None) == ("`body`" in what)
        else:
            status = sent.pop(0).status
            assert status is not None
            if what not in ("a status", "its status"):
                assert status[0] == StatusCode[what].number
            if kind[1] == "S" and "send END" not in actions:
                assert sent.pop(0) == F(id, END)
    assert sent == []


# -- the client ----------------------------------------------------------------------------

CLIENT_EVENTS: dict[str, Callable[[Client, RecordedCall], None]] = {
    "a request, and credit": lambda client, call: client_writes(call, True),
    "a request, and no credit": lambda client, call: (
        client_writes(call, True, bytes(500)),
        client.sent(),
        client_writes(call, False),
    )[0],
    "no more requests": lambda client, call: call.half_close(),
    "NORMAL with `credit`": lambda client, call: (
        client_writes(call, True, bytes(500)),
        client.sent(),
        client_writes(call, False),
        client.receives(F(1, credit=500)),
        client.turns(),
    )[0],
    "NORMAL with `status` other than OK": lambda client, call: client.receives(
        F(1, status=(5, "no"))
    ),
    "NORMAL with `body`": lambda client, call: client.receives(F(1, body=b"x")),
    "NORMAL with `body` and `more`": lambda client, call: client.receives(
        F(1, body=b"x", more=True)
    ),
    "NORMAL with `metadata`": lambda client, call: client.receives(
        F(1, metadata=(("key", b"value"),))
    ),
    "END": lambda client, call: client.receives(F(1, END)),
    "END, after `more`": lambda client, call: client.receives(
        F(1, body=b"x", more=True), F(1, END)
    ),
    "CANCEL": lambda client, call: client.receives(F(1, CANCEL)),
    "the caller cancels": lambda client, call: call.abandon(1, "cancelled"),
    "the deadline passes": lambda client, call: call.abandon(4, "late"),
    "a message above the limit": lambda client, call: client.receives(F(1, body=ABOVE_MESSAGE)),
    "a frame above the limit": lambda client, call: client.receives(F(1, body=ABOVE_FRAME)),
    "metadata above the limit": lambda client, call: client.receives(F(1, metadata=ABOVE_METADATA)),
    "going away, with a lower last id": lambda client, call: client.receives(
        F(0, END, go_away=(0, "restarting"))
    ),
    "the connection is lost": lambda client, call: client.loses(),
    "any frame": lambda client, call: client.receives(
        F(1, body=b"x"), F(1, status=(5, "no")), F(1, credit=5), F(1, END), F(1, CANCEL)
    ),
}


def client_writes(call: RecordedCall, at_once: bool, body: bytes = b"x") -> None:
    assert call.write_message(body) is at_once


def without_kind(event: str) -> str:
    for kind in (", one reply due", ", reply stream", ", one request", ", request stream"):
        event = event.replace(kind, "")
    return event


@pytest.mark.parametrize(
    ("kind", "state", "event", "action", "then"), rows("The client's side of an RPC")
)
def test_the_client(kind: str, state: str, event: str, action: str, then: str) -> None:
    client = Client(LIMITS, settings_of_peer(initial_credit=500))
    call = client.opens(kind)
    if state != "*none*":
        if state != "sending" and kind[0] == "S":
            call.half_close()
        if state == "ended":
            call.abandon(1, "cancelled")
        client.sent()
        call.happened()
        CLIENT_EVENTS[without_kind(event)](client, call)

    actions = action.split(", ")
    sends = [each for each in actions if each.startswith("send ")]
    sends = ["send NORMAL with `body`" if "waits" in each else each for each in sends]
    check_sent(kind, 1, sends, client.sent())
    happened = [each for each in call.happened() if each != "sendable"]
    if "metadata" not in action and "metadata" in happened:
        assert call.initial_metadata_pairs == []  # from the first reply on, none will come
        happened.remove("metadata")
    if "fail with that status" in action:
        assert happened == [("finished", 5, "no")]
    elif "fail with" in action:
        ((what, code, _),) = happened
        name = next(each for each in actions if each.startswith("fail with ")).split()[-1]
        assert (what, code) == ("finished", StatusCode[name].number)
    elif action == "succeed":
        assert happened == [("reply", b"x") if kind[1] == "U" else ("finished", 0, "")]
    elif action == "deliver the reply":
        assert (happened, call.read_all()) == (["readable"], [b"x"])
    elif action == "deliver the initial metadata":
        assert (happened, call.initial_metadata_pairs) == (["metadata"], [("key", b"value")])
    else:
        assert happened == []
    assert call.finished == (then == "ended")
    assert (1 in client.session.rpcs) == (then != "ended")


# -- the server ----------------------------------------------------------------------------

SERVER_EVENTS: dict[str, Callable[[Server, RecordedHandler], None]] = {
    "NORMAL with `body`": lambda server, rpc: server.receives(F(1, body=b"x")),
    "NORMAL with `body` and `more`": lambda server, rpc: server.receives(
        F(1, body=b"x", more=True)
    ),
    "NORMAL with `credit`": lambda server, rpc: (
        rpc.write_message(bytes(500)),
        server.sent(),
        rpc.write_message(b"x"),
        server.receives(F(1, credit=500)),
        server.turns(),
        None,
    )[-1],
    "NORMAL with `method`": lambda server, rpc: server.receives(F(1, method="/test/UU")),
    "END": lambda server, rpc: server.receives(F(1, END)),
    "END, after `more`": lambda server, rpc: server.receives(F(1, body=b"x", more=True), F(1, END)),
    "CANCEL": lambda server, rpc: server.receives(F(1, CANCEL)),
    "CANCEL, of an id never opened": lambda server, rpc: server.receives(F(1, CANCEL)),
    "a message above the limit": lambda server, rpc: server.receives(F(1, body=ABOVE_MESSAGE)),
    "a frame above the limit": lambda server, rpc: server.receives(F(1, body=ABOVE_FRAME)),
    "the deadline passes": lambda server, rpc: rpc.stop(4, "late"),
    "the handler returns the reply": lambda server, rpc: rpc.reply(b"x", None),
    "the handler yields a reply": lambda server, rpc: (rpc.write_message(b"x"), None)[1],
    "the handler ends its replies": lambda server, rpc: rpc.end_stream(None),
    "the handler fails": lambda server, rpc: rpc.fail(3, "no"),
    "the connection is lost": lambda server, rpc: server.loses(),
}

OPENINGS: dict[str, dict[str, Any]] = {
    "NORMAL with `method` and `body`": {"body": b"x"},
    "NORMAL with `method`, `body` and `more`": {"body": b"x", "more": True},
    "NORMAL with `method`": {},
    "NORMAL with `method`, not to be served": {"body": b"x"},
}


@pytest.mark.parametrize(
    ("kind", "state", "event", "action", "then"), rows("The server's side of an RPC")
)
def test_the_server(kind: str, state: str, event: str, action: str, then: str) -> None:
    server = Server(LIMITS, settings_of_peer())
    event = without_kind(event)
    opening: dict[str, Any] = {"credit": 500} if kind[1] == "S" else {}
    rpc: Any = None
    id = 1
    if event in OPENINGS and state == "*none*":
        if "not to be served" in event:
            id = 10
            server.accepts("UU", id=9)
            server.session.go_away("restarting")
            server.sent()
        server.receives(F(id, method=f"/test/{kind}", **OPENINGS[event], **opening))
        accepted = [each for each in server.session.accepted if each.id == id]
        rpc = accepted[0] if accepted else None
    elif state == "cancelled":
        server.receives(F(1, CANCEL), F(1, method=f"/test/{kind}", **opening))
        assert not server.session.accepted
    elif state == "*none*":
        if event == "CANCEL":
            server.accepts("UU", id=9)
        frame = {"NORMAL without `method`": F(1, body=b"x")}.get(event)
        if frame is None:
            SERVER_EVENTS[event](server, rpc)
        else:
            server.receives(frame)
    else:
        if kind[0] == "U" and state == "receiving":
            opening["more"] = True
        rpc = server.accepts(kind, **opening)
        if kind[0] == "S" and state == "answering":
            server.receives(F(1, END))
        rpc.happened()
        if "end the connection" in action:
            with pytest.raises(ProtocolError):
                SERVER_EVENTS[event](server, rpc)
            return
        SERVER_EVENTS[event](server, rpc)

    actions = action.split(", ")
    sends = [each for each in actions if each.startswith("send ")]
    sends = ["send NORMAL with `body`" if "waits" in each else each for each in sends]
    check_sent(kind, id, sends, server.sent())
    happened = [] if rpc is None else rpc.happened()
    invited = [each for each in happened if each in ("readable", "sendable")]
    told = [each for each in happened if each not in ("readable", "sendable")]
    if "start the handler with the request" in action:
        assert told == [("request", b"requestx" if state == "receiving" else b"x")]
    elif "deliver" in action:
        assert invited == ["readable"]
        assert rpc.read_all() == ([b"x"] if action == "deliver the request" else [])
        assert rpc.receive.ended == (action == "deliver the end of requests")
    elif "stop the handler" in action:
        ((what, code, _),) = told
        assert what == "stopped"
        name = sends[0].removeprefix("send ") if sends else "CANCELLED"
        assert code == StatusCode[{"CANCEL": "CANCELLED"}.get(name, name)].number
    else:
        assert told == []
    if rpc is not None:
        assert rpc.ended == (then == "ended")
    assert (id in server.session.rpcs) == (then not in ("ended", "*none*", "cancelled"))
    if then == "cancelled":
        server.receives(F(1, method=f"/test/{kind}", **opening))
        assert server.sent() == [F(1, CANCEL)]
