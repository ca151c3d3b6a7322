"""Flow control without I/O: credit, fragments, turns, and reading no more than is read."""

from __future__ import annotations

import random

import pytest
from service.sansio import CANCEL, END, SETTINGS, Client, F, Server, peer_settings

from protosocket_rpc.service.limits import CREDIT_BEFORE_SETTINGS, RpcLimits, too_large
from protosocket_rpc.service.session import FRAGMENT

LIMITS = RpcLimits(stream_window=1000, max_receive_message_size=2000)


# -- credit, sending -----------------------------------------------------------------------


def test_a_stream_runs_ahead_as_far_as_its_credit() -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("US", credit=10)
    rpc.happened()
    assert rpc.write_message(b"12345")
    assert rpc.write_message(b"1234")
    # A message larger than what is left may go, once.
    assert rpc.write_message(b"123")
    assert not rpc.write_message(b"waits")
    server.turns()
    assert [frame.body for frame in server.sent()] == [b"12345", b"1234", b"123"]
    server.receives(F(1, credit=2))  # what was owed
    server.turns()
    assert server.sent() == []
    server.receives(F(1, credit=1))
    server.turns()
    assert server.sent() == [F(1, body=b"waits")]
    assert rpc.happened() == ["sendable"]


def test_no_credit_in_the_opening_frame_is_no_limit() -> None:
    server = Server(LIMITS)
    rpc = server.accepts("US")
    assert all(rpc.write_message(bytes(1000)) for _ in range(1000))


def test_an_empty_message_counts_as_one_byte() -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("US", credit=3)
    assert [rpc.write_message(b"") for _ in range(4)] == [True, True, True, False]
    server.receives(F(1, credit=1))
    server.turns()
    assert len(server.sent()) == 4
    assert not rpc.write_message(b"")


def test_one_stream_without_credit_does_not_stop_another() -> None:
    server = Server(LIMITS, peer_settings())
    slow, fast = server.accepts("US", 1, credit=1), server.accepts("US", 2, credit=1_000_000)
    slow.write_message(b"x")
    assert not slow.write_message(b"waits")
    assert all(fast.write_message(b"x" * 100) for _ in range(1000))
    server.turns()
    assert {frame.id for frame in server.sent()[1:]} == {2}


def test_credit_for_what_has_ended_is_harmless() -> None:
    server = Server(LIMITS, peer_settings())
    server.accepts("UU").reply(b"x", None)
    server.accepts("UU", 2)
    server.sent()
    server.receives(F(2, credit=99))
    assert server.sent() == []


# -- credit, receiving ---------------------------------------------------------------------


def test_half_of_the_window_is_returned_at_a_time() -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens("US")
    client.receives(F(1, body=bytes(499)), F(1, body=b"x"), F(1, body=bytes(400)))
    client.sent()
    assert call.receive is not None
    call.receive.take()
    assert client.sent() == []
    call.receive.take()
    assert client.sent() == [F(1, credit=500)]
    call.receive.take()
    assert client.sent() == []


def test_a_large_message_is_returned_whole() -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("SU")
    server.receives(F(1, body=bytes(800), more=True), F(1, body=bytes(800)))
    rpc.read_all()
    assert server.sent() == [F(1, credit=1600)]


def test_empty_messages_are_returned_as_they_are_counted() -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("SU")
    server.receives(*[F(1, body=b"")] * 500)
    assert rpc.read_all() == [b""] * 500
    assert server.sent() == [F(1, credit=500)]


def test_no_credit_for_a_peer_that_does_not_know_it() -> None:
    for settings in (None, peer_settings(credit=False)):
        client = Client(LIMITS, settings)
        call = client.opens("US")
        client.sent()
        client.receives(*[F(1, body=bytes(900))] * 2)
        assert len(call.read_all()) == 2
        assert client.sent() == []


def test_no_credit_for_a_stream_that_has_ended() -> None:
    client = Client(LIMITS, peer_settings())
    call = client.opens("US")
    client.sent()
    client.receives(F(1, body=bytes(900)), F(1, END))
    assert call.read_all() == [bytes(900)]
    assert client.sent() == []


@pytest.mark.parametrize("sizes", [[1], [0], [999], [1000], [1, 0, 2000, 499], [500, 500], [2000]])
def test_a_reader_that_reads_keeps_the_sender_going(sizes: list[int]) -> None:
    """Two sides, and nothing is lost, held back for ever, or beyond window and one message."""
    client, server = Client(LIMITS, peer_settings()), Server(LIMITS, peer_settings())
    call = client.opens("US")
    server.receives_bytes(client.sent_bytes())
    rpc = server.session.accepted[0]
    count = unread = most = 0
    blocked = False
    for step in range(3000):
        if not blocked:
            blocked = not rpc.write_message(bytes(sizes[step % len(sizes)]))
        server.turns()
        client.receives_bytes(server.sent_bytes())
        if step % 3 == 0:
            assert call.receive is not None
            body = call.receive.take()
            count += body is not None
        unread = call.receive._unread if call.receive is not None else 0
        most = max(most, unread)
        server.receives_bytes(client.sent_bytes())
        server.turns()
        blocked = blocked and rpc.send is not None and rpc.send.pending
    assert count == 1000
    assert most <= 1000 + max(sizes)
    assert client.connection.reading


# -- reading no more than is read ----------------------------------------------------------


def flood(side: Client | Server, size: int, count: int) -> int:
    """Send messages of an RPC as long as the side reads: how many that were."""
    for sent in range(count):
        if not side.connection.reading:
            return sent
        side.receives(F(1, body=bytes(size)))
    return count


@pytest.mark.parametrize("size", [0, 1, 100, 2000])
def test_a_peer_that_does_not_mind_its_credit_is_not_read(size: int) -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("SU")
    taken = flood(server, size, 1_000_000)
    assert taken * (size or 1) <= CREDIT_BEFORE_SETTINGS + 2000 + (size or 1)
    # It is, when the handler has read what came.
    assert len(rpc.read_all()) == taken
    assert server.connection.reading


def test_a_stream_of_a_server_without_settings_is_read_as_far_as_memory_goes() -> None:
    client = Client(LIMITS)
    call = client.opens("US")
    assert flood(client, 1000, 1000) < 100
    assert not client.connection.reading
    call.read_all()
    assert client.connection.reading


def test_what_was_sent_before_the_settings_came_is_no_breach() -> None:
    server = Server(LIMITS)
    server.accepts("SU")
    server.receives(*[F(1, body=bytes(1024))] * (CREDIT_BEFORE_SETTINGS // 1024))
    assert server.connection.reading


@pytest.mark.parametrize("end", ["END", "CANCEL", "status", "abandon"])
def test_an_rpc_that_has_ended_does_not_stop_the_connection(end: str) -> None:
    client = Client(LIMITS)
    call = client.opens("US")
    flood(client, 1000, 1000)
    assert not client.connection.reading
    if end == "abandon":
        call.abandon(1, "")
    else:  # what is decoded already still arrives
        client.receives({"END": F(1, END), "CANCEL": F(1, CANCEL)}.get(end, F(1, status=(3, ""))))
    assert client.connection.reading
    if end != "abandon":
        assert call.read_all()


@pytest.mark.parametrize("end", ["END", "CANCEL", "fail", "lose"])
def test_nor_does_one_at_a_server(end: str) -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("SS")
    flood(server, 1000, 1000)
    assert not server.connection.reading
    if end == "fail":
        rpc.fail(3, "")
    elif end == "lose":
        server.loses()
        return
    else:
        server.receives(F(1, END if end == "END" else CANCEL))
    assert server.connection.reading


def test_all_who_stop_the_connection_have_to_read() -> None:
    server = Server(LIMITS, peer_settings())
    first = server.accepts("SU", 1)
    second = server.accepts("SU", 2)
    server.receives(*[F(1, body=bytes(2000))] * 40, *[F(2, body=bytes(2000))] * 40)
    assert not server.connection.reading
    first.read_all()
    assert not server.connection.reading
    second.read_all()
    assert server.connection.reading


# -- fragments, received -------------------------------------------------------------------


def test_fragments_of_many_rpcs_interleave() -> None:
    server = Server(LIMITS)
    rpcs = [server.accepts("UU", id, body=b"%d" % id, more=True) for id in range(1, 10)]
    for piece in (b"a", b"b"):
        for rpc in rpcs:
            server.receives(F(rpc.id, body=piece, more=True))
    for rpc in rpcs:
        server.receives(F(rpc.id, body=b"."))
        assert rpc.happened() == [("request", b"%dab." % rpc.id)]


@pytest.mark.parametrize("piece", [b"", b"x", b"xy"])
def test_small_fragments_do_not_grow_into_more_than_their_bytes(piece: bytes) -> None:
    import tracemalloc

    server = Server(RpcLimits(max_receive_message_size=100_000))
    server.accepts("UU", body=b"", more=True)
    frame = F(1, body=piece, more=True).encode()
    tracemalloc.start()
    try:
        for _ in range(500):
            server.receives_bytes(frame * 100)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 3 * 100_000


def test_a_message_is_too_large_with_the_fragment_that_makes_it_so() -> None:
    server = Server(LIMITS)
    rpc = server.accepts("UU", body=bytes(1500), more=True)
    server.receives(F(1, body=bytes(500), more=True))
    assert rpc.happened() == []
    server.receives(F(1, body=b"x", more=True))
    text = too_large("Received message", 2001, 2000, "server", "max_receive_message_size")
    assert rpc.happened() == [("stopped", 8, text)]
    server.receives(F(1, body=b"x"))
    assert [frame.code for frame in server.sent()] == [0, CANCEL]


# -- fragments and turns, sending ----------------------------------------------------------


def test_large_messages_take_turns_and_small_ones_pass_them() -> None:
    server = Server(LIMITS, peer_settings())
    large = [server.accepts("UU", id) for id in (1, 2)]
    for rpc in large:
        rpc.reply(bytes(64 * FRAGMENT), None)
    small = server.accepts("UU", 3)
    turns: list[int] = []
    while not (large[0].ended and large[1].ended):
        server.turn()
        (frame,) = server.sent()
        turns.append(frame.id)
        if len(turns) == 3:
            small.reply(b"small", None)
            assert server.sent() == [F(3, body=b"small")]
    assert turns == [1, 2] * 64


def test_nothing_is_written_while_the_peer_does_not_read() -> None:
    server = Server(LIMITS, peer_settings())
    stream = server.accepts("US", 1, credit=1 << 30)
    server.accepts("UU", 2).reply(bytes(8 * FRAGMENT), None)
    server.turn()
    server.sent()
    server.stalls()
    assert not stream.write_message(b"waits")
    server.turns()
    assert server.sent() == []
    server.resumes()
    server.turns()
    assert [frame.id for frame in server.sent()] == [2, 1] + [2] * 6
    assert stream.happened()[-1] == "sendable"


def test_a_message_waits_for_its_turn_with_what_belongs_to_it() -> None:
    """Metadata with the first fragment, trailers with the last, and once each."""
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("UU")
    server.stalls()
    rpc.send_initial_pairs([("m", b"1")])
    rpc.reply(bytes(5 * FRAGMENT + 1), [("t", b"2")])
    server.resumes()
    server.turns()
    frames = server.sent()
    assert [frame.metadata for frame in frames] == [(("m", b"1"),), *[()] * 6]
    assert [frame.trailers for frame in frames] == [*[()] * 6, (("t", b"2"),)]
    assert [frame.more for frame in frames] == [False, *[True] * 5, False]


def test_settings_between_two_fragments_change_nothing_that_has_left() -> None:
    client = Client(LIMITS)
    call = client.opens("SU")
    client.stalls()
    call.write_message(bytes(5 * FRAGMENT))
    client.receives(SETTINGS)
    client.resumes()
    client.turns()
    assert [len(frame.body or b"") for frame in client.sent()] == [0] + [FRAGMENT] * 5


@pytest.mark.parametrize("size", [3, FRAGMENT + 1, 5 * FRAGMENT])
@pytest.mark.parametrize("sent_before", [False, True])
def test_a_message_pays_once_though_credit_comes_while_it_waits_for_the_peer_to_read(
    size: int, sent_before: bool
) -> None:
    server = Server(LIMITS, peer_settings())
    rpc = server.accepts("US", credit=2)
    rpc.happened()
    server.stalls()
    assert not rpc.write_message(bytes(size))  # paid for, and waits for room
    if sent_before and size > FRAGMENT:
        server.resumes()
        server.stalls()
    server.receives(F(1, credit=size + 10))
    assert rpc.send is not None
    assert rpc.send.credit == 12
    server.resumes()
    server.turns()
    assert sum(len(frame.body or b"") for frame in server.sent()) == size
    assert rpc.happened() == ["sendable"]
    assert rpc.send.credit == 12


@pytest.mark.parametrize("seed", range(20))
def test_no_credit_is_ever_lost(seed: int) -> None:
    """Peers that stall now and then; at the end, credit and what is unreturned are the window."""
    rng = random.Random(seed)
    client, server = Client(LIMITS, peer_settings()), Server(LIMITS, peer_settings())
    call = client.opens("US")
    server.receives_bytes(client.sent_bytes())
    rpc = server.session.accepted[0]
    assert rpc.send is not None
    assert call.receive is not None
    for _ in range(2000):
        if not rpc.send.pending:
            rpc.write_message(bytes(rng.choice([0, 1, 300, 700, 2000])))
        if rng.random() < 0.3:
            server.stalls()
        elif not server.connection.writable:
            server.resumes()
        server.turns()
        if rng.random() < 0.7:
            client.receives_bytes(server.sent_bytes())
        if rng.random() < 0.7:
            call.read_all()
        if rng.random() < 0.7:
            server.receives_bytes(client.sent_bytes())
    for _ in range(5):
        server.resumes()
        server.turns()
        client.receives_bytes(server.sent_bytes())
        call.read_all()
        server.receives_bytes(client.sent_bytes())
    assert not rpc.send.pending
    assert rpc.send.credit + call.receive._to_return == LIMITS.stream_window
