"""Two sides, bytes in pieces of any size between them, and events in any order.

Whatever happens: every RPC ends exactly once on either side, what arrives is what was sent, in
its order, and nothing is left in the tables.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from service.sansio import (
    Client,
    RecordedCall,
    RecordedHandler,
    Server,
    Side,
    peer_settings,
)

from protosocket_rpc.rpc.message import END
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.session import FRAGMENT
from protosocket_rpc.wire.frame import encode_frame, settings_field

KINDS = ("UU", "US", "SU", "SS")
SIZES = (0, 1, 10, 700, 3000, FRAGMENT + 1, 5 * FRAGMENT)


class World:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        window = self.rng.choice([1, 1000, 300_000])
        limits = RpcLimits(stream_window=window, max_receive_message_size=5 * FRAGMENT)
        self.client, self.server = Client(limits), Server(limits)
        hello = encode_frame(0, END, settings_field(peer_settings(initial_credit=window)))
        # A server that minds credit has settings; a client may be one that knows nothing of them.
        self.to_server = bytearray(hello if self.rng.random() < 0.8 else b"")
        self.to_client = bytearray(hello)
        self.calls: list[RecordedCall] = []
        self.sent: dict[Any, list[bytes]] = {}
        self.received: dict[Any, list[bytes]] = {}
        self.closed: set[RecordedCall] = set()
        self.lost = False
        self.counter = 0

    @property
    def handlers(self) -> list[RecordedHandler]:
        return self.server.session.accepted

    def body(self) -> bytes:
        self.counter += 1
        return (b"%d." % self.counter * self.rng.choice(SIZES))[: self.rng.choice(SIZES)]

    # -- what may happen -------------------------------------------------------------------

    def open(self) -> None:
        if self.client.session.usable and not self.lost:
            body = self.body()
            call = self.client.opens(self.rng.choice(KINDS), body)
            self.calls.append(call)
            self.sent[call] = [] if call.streams_requests else [body]

    def write(self) -> None:
        for call in self.rng.sample(self.calls, min(3, len(self.calls))):
            if not (call.streams_requests and not call.finished) or call in self.closed:
                continue
            assert call.send is not None
            if call.send.pending:
                continue
            if self.rng.random() < 0.3:
                call.half_close()
                self.closed.add(call)
            else:
                body = self.body()
                self.sent[call].append(body)
                call.write_message(body)

    def abandon(self) -> None:
        if self.calls and self.rng.random() < 0.3:
            self.rng.choice(self.calls).abandon(self.rng.choice([1, 4]), "abandoned")

    def read(self) -> None:
        for rpc in self.rng.sample(self.calls, min(3, len(self.calls))):
            if rpc.streams_replies and rpc.receive is not None:
                self.received.setdefault(rpc, []).extend(rpc.read_all())
        for handler in self.rng.sample(self.handlers, min(3, len(self.handlers))):
            if handler.streams_requests and handler.receive is not None:
                self.received.setdefault(handler, []).extend(handler.read_all())

    def handle(self) -> None:
        for handler in self.rng.sample(self.handlers, min(3, len(self.handlers))):
            if not handler.ended:
                self.act(handler, self.rng.random())

    def act(self, handler: RecordedHandler, choice: float) -> None:
        if handler.send is not None and handler.send.pending:
            return
        if choice < 0.1:
            handler.fail(self.rng.randrange(1, 17), "failed")
        elif choice < 0.15:
            handler.stop(4, "stopped")
        elif choice < 0.2:
            handler.send_initial_pairs([("m", b"1")])
        elif not handler.streams_replies:
            body = self.body()
            self.sent[handler] = [body]
            handler.reply(body, [("t", b"1")] if choice < 0.5 else None)
        elif choice < 0.3:
            handler.end_stream(None)
        else:
            body = self.body()
            self.sent.setdefault(handler, []).append(body)
            handler.write_message(body)

    def carry(self) -> None:
        """Some bytes reach the other side."""
        for side, queue, other in (
            (self.client, self.to_server, self.server),
            (self.server, self.to_client, self.client),
        ):
            queue += side.sent_bytes()
            if other.connection.closing:
                queue.clear()  # nobody reads that any more
            if self.lost or not other.connection.reading:
                continue
            count = self.rng.choice([1, 2, 50, 5000, 1 << 20])
            piece = bytes(queue[:count])
            del queue[:count]
            if piece:
                other.receives_bytes(piece)

    def turn(self) -> None:
        sides: list[Side[Any]] = [self.client, self.server]
        for side in sides:
            if not side.connection.closing:
                if self.rng.random() < 0.1:
                    side.stalls()
                elif not side.connection.writable:
                    side.resumes()
                side.turn()

    def go_away(self) -> None:
        if self.rng.random() < 0.02:
            self.server.session.go_away("restarting")

    def lose(self) -> None:
        if self.rng.random() < 0.01:
            self.end()

    def end(self) -> None:
        if not self.lost:
            self.lost = True
            self.client.loses()
            self.server.loses()

    def step(self) -> None:
        self.rng.choice([self.open, self.write, self.abandon, self.read, self.handle])()
        self.rng.choice([self.carry, self.carry, self.turn, self.go_away, self.lose])()

    def settle(self) -> None:
        """Everybody reads, everybody answers."""
        for _ in range(100_000):
            self.read_everything()
            for side in (self.client, self.server):
                if not side.connection.closing:
                    side.connection.writable = True
                    side.turns()
            self.carry()
            for handler in self.handlers:
                if not handler.ended and ("request" in str(handler.events)):
                    self.act(handler, 0.7 if handler.streams_replies is False else 0.25)
                elif not handler.ended and handler.streams_requests:
                    self.act(handler, 0.25 if handler.streams_replies else 0.7)
            if self.server.connection.closing and not self.to_client and not self.lost:
                self.end()
            if not (self.to_client or self.to_server or self.client.session.rpcs):
                return
        raise AssertionError("it does not come to an end")

    def read_everything(self) -> None:
        for rpc in self.calls:
            if rpc.streams_replies and rpc.receive is not None:
                self.received.setdefault(rpc, []).extend(rpc.read_all())
        for handler in self.handlers:
            if handler.streams_requests and handler.receive is not None:
                self.received.setdefault(handler, []).extend(handler.read_all())


@pytest.mark.parametrize("block", range(10))
def test_every_rpc_ends_exactly_once_on_both_sides(block: int) -> None:
    outcomes: dict[Any, int] = {}
    for seed in range(block * 30, block * 30 + 30):
        world = World(seed)
        for _ in range(world.rng.choice([20, 100, 300])):
            world.step()
        if not world.lost:
            world.settle()
        world.end()
        world.read_everything()
        check(world, seed)
        for call in world.calls:
            key = call.outcomes()[0][:2] if call.outcomes()[0][0] == "finished" else "reply"
            outcomes[key] = outcomes.get(key, 0) + 1
    # The dice are not loaded: each kind of end was seen.
    assert outcomes["reply"]
    assert all(outcomes[("finished", code)] for code in (0, 1, 4, 14))


def check(world: World, seed: int) -> None:
    by_id = {handler.id: handler for handler in world.handlers}
    assert len(by_id) == len(world.handlers), seed
    for call in world.calls:
        assert call.finished
        (outcome,) = call.outcomes()
        handler = by_id.get(call.id)
        replies = [] if handler is None else world.sent.get(handler, [])
        if outcome[0] == "reply":
            assert [outcome[1]] == replies, seed
        elif call.streams_replies:
            received = world.received.get(call, [])
            assert received == replies[: len(received)], seed
            if outcome[1] == 0:
                assert received == replies, seed
    for handler in world.handlers:
        call = world.calls[handler.id - 1]
        assert handler.ended
        assert len([event for event in handler.events if event[0] == "stopped"]) <= 1, seed
        requests = world.received.get(handler, [])
        requests += [event[1] for event in handler.events if event[0] == "request"]
        assert requests == world.sent[call][: len(requests)], seed
    assert not world.client.session.rpcs
    assert not world.server.session.rpcs
