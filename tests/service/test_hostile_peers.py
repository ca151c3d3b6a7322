"""A peer that sends frames of any content in any order, at the worst of times.

Either side then does one of two things: it goes on, or it says that the protocol was broken.
Nothing else is ever raised, and whatever was in flight ends exactly once.
"""

from __future__ import annotations

import random

import pytest
from service.sansio import (
    CANCEL,
    END,
    NORMAL,
    Client,
    F,
    RecordedCall,
    RecordedHandler,
    RecordingSession,
    Side,
)

from protosocket_rpc.errors import ProtocolError
from protosocket_rpc.service.flow import MessageRefused
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.wire.frame import Frame

KINDS = ("UU", "US", "SU", "SS")
LIMITS = RpcLimits(max_receive_message_size=2000, max_metadata_size=50, stream_window=500)
SIZES = (0, 1, 10, 499, 501, 1999, 2001)
METHODS = (*(f"/test/{kind}" for kind in KINDS), "/test/UU", "")
TOO_LARGE = bytes(LIMITS.max_frame_size)


class CountedHandler(RecordedHandler):
    """Counts how often its RPC has ended."""

    ends = 0

    def _end(self, frames: bytes) -> None:
        self.ends += 1
        super()._end(frames)


class CountingSession(RecordingSession):
    def accept(self, frame: Frame) -> None:
        rpc = CountedHandler(self, frame)
        self.accepted.append(rpc)
        rpc.open()


class Hostility:
    """Makes the frames, and carries them to a side in pieces of any size."""

    def __init__(self, rng: random.Random, side: Side, methods: tuple[str, ...]) -> None:
        self.rng = rng
        self.side = side
        self.methods = methods
        self.broken = False

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def frame(self) -> F:
        rng = self.rng
        if self.chance(0.1):
            return self.control()
        size = rng.choice(SIZES)
        return F(
            rng.randrange(1, 7),
            rng.choice((NORMAL,) * 7 + (CANCEL, END, 3, 200)),
            method=rng.choice(self.methods) if self.chance(0.3) else "",
            body=rng.randbytes(size) if self.chance(0.7) else None,
            timeout_us=rng.choice((1, 2**64 - 1)) if self.chance(0.1) else 0,
            metadata=(("k", bytes(rng.choice((1, 60)))),) if self.chance(0.1) else (),
            trailers=(("k", bytes(rng.choice((1, 60)))),) if self.chance(0.1) else (),
            status=(rng.choice((0, 5, 99, 2**32 - 1)), "?") if self.chance(0.1) else None,
            compression=rng.choice((1, 2, 3, 9, 2**32)) if self.chance(0.1) else 0,
            credit=rng.choice((1, 500, 2**64 - 1)) if self.chance(0.2) else 0,
            more=self.chance(0.2),
        )

    def control(self) -> F:
        rng = self.rng
        if self.chance(0.05):
            return F(0, NORMAL, body=b"")
        return F(
            0,
            rng.choice((END, END, END, CANCEL, 3)),
            settings=self.chance(0.4),
            ping=rng.randrange(2**64) if self.chance(0.2) else None,
            pong=rng.randrange(2**64) if self.chance(0.2) else None,
            go_away=(rng.randrange(8), "bye") if self.chance(0.05) else None,
        )

    def attack(self) -> None:
        data = b"".join(self.frame().encode() for _ in range(self.rng.randrange(1, 5)))
        if self.chance(0.02):
            data += F(self.rng.randrange(0, 7), body=TOO_LARGE).encode()
        if self.chance(0.01):
            data += self.rng.randbytes(20)
        while data and not self.broken:
            size = self.rng.choice((1, 7, 100, len(data)))
            try:
                self.side.receives_bytes(data[:size])
            except ProtocolError as error:
                self.broken = True
                self.side.loses(error)
            data = data[size:]

    def hinder(self) -> None:
        """The side's own output finds no reader for a while, or finds one again."""
        if self.side.connection.closing:
            return
        if self.chance(0.3):
            self.side.stalls()
        elif not self.side.connection.writable:
            self.side.resumes()
        self.side.turns()


def read(rpc: RecordedCall | RecordedHandler) -> None:
    if rpc.receive is not None:
        try:
            rpc.read_all()
        except MessageRefused as error:
            if isinstance(rpc, RecordedHandler):
                rpc.stop(error.code, str(error))
            else:
                rpc.abandon(error.code, str(error))


def answer(rng: random.Random, handler: RecordedHandler) -> None:
    if handler.ended or (handler.send is not None and handler.send.pending):
        return
    choice = rng.randrange(8)
    if choice == 0:
        handler.fail(5, "failed")
    elif choice == 1:
        handler.send_initial_pairs([("m", b"1")])
    elif not handler.streams_replies:
        handler.reply(rng.randbytes(rng.choice(SIZES)), None)
    elif choice == 2:
        handler.end_stream(None)
    else:
        handler.write_message(rng.randbytes(rng.choice(SIZES)))


@pytest.mark.parametrize("block", range(8))
def test_a_server_survives_any_client(block: int) -> None:
    seen = {"broken": 0, "accepted": 0, "stopped": 0}
    for seed in range(block * 100, block * 100 + 100):
        rng = random.Random(seed)
        session = CountingSession(LIMITS)
        server = Side(session)
        client = Hostility(rng, server, METHODS)
        for _ in range(60):
            client.attack()
            if client.broken:
                break
            for handler in session.accepted[-6:]:
                if rng.random() < 0.5:
                    read(handler)
                else:
                    answer(rng, handler)
            client.hinder()
        if not client.broken:
            server.loses()
        seen["broken"] += client.broken
        for handler in session.accepted:
            assert handler.ended, seed
            assert handler.ends == 1, seed
            stops = [event for event in handler.events if event[0] == "stopped"]
            requests = [event for event in handler.events if event[0] == "request"]
            assert len(stops) <= 1, seed
            assert len(requests) <= 1, seed
            seen["accepted"] += 1
            seen["stopped"] += len(stops)
        assert not session.rpcs, seed
    assert all(count > 20 for count in seen.values()), seen


@pytest.mark.parametrize("block", range(8))
def test_a_client_survives_any_server(block: int) -> None:
    seen: dict[object, int] = {"broken": 0}
    for seed in range(block * 100, block * 100 + 100):
        rng = random.Random(seed)
        client = Client(LIMITS)
        server = Hostility(rng, client, ("",) * 9 + METHODS)
        calls: list[RecordedCall] = []
        for _ in range(60):
            if client.session.usable and len(calls) < 6:
                calls.append(client.opens(rng.choice(KINDS), rng.randbytes(rng.choice(SIZES))))
            server.attack()
            if server.broken:
                break
            call = rng.choice(calls)
            choice = rng.randrange(4)
            if choice == 0:
                read(call)
            elif choice == 1 and server.chance(0.1):
                call.abandon(1, "abandoned")
            elif call.streams_requests and not call.finished:
                assert call.send is not None
                if not call.send.pending:
                    call.write_message(rng.randbytes(rng.choice(SIZES)))
            server.hinder()
        if not server.broken:
            client.loses()
        seen["broken"] += server.broken
        for call in calls:
            assert call.finished, seed
            (outcome,) = call.outcomes()
            assert call.events.index(outcome) == len(call.events) - 1, seed
            kind = outcome[0] if outcome[0] == "reply" else outcome[1]
            seen[kind] = seen.get(kind, 0) + 1
        assert not client.session.rpcs, seed
    # Of each outcome some: the dice are not loaded.
    assert all(seen.get(kind) for kind in ("broken", "reply", 0, 1, 5, 8, 13, 14)), seen
