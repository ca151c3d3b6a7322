"""Busy polling: the loop is kept awake around traffic, and only then."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
from raw.polling import Clock
from support import Recorder, UvLoop, connected, listening, wait_until

from protosocket_rpc.raw import Limits, busy_poll, connect
from protosocket_rpc.raw.busy_poll import BusyPoller, make_connection, poller_of
from protosocket_rpc.raw.codecs import ByteLineCodec
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.endpoints import open_transport
from protosocket_rpc.raw.polled import PolledConnection
from protosocket_rpc.raw.reactor import Reactor

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": UvLoop}


class Turns(Clock):
    """A loop and a clock, both by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.due: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None], context: Any) -> None:
        self.due.append(callback)

    def turn(self, seconds: float = 0.0) -> int:
        """One turn, `seconds` after the last; how many callbacks were due in it."""
        self.now += seconds
        due, self.due = self.due, []
        for callback in due:
            callback()
        return len(due)


class Active:
    """A connection with traffic, as a poller sees it."""

    def __init__(self) -> None:
        self.answer_due = False

    def awaits(self) -> bool:
        return self.answer_due


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


class TestPoller:
    def test_polls_from_the_last_traffic_on(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        poller.touch(Active(), 2.0)
        assert poller.polling
        assert [turns.turn(1.0) for _ in range(3)] == [1, 1, 1]  # time begins in the first turn
        assert not poller.polling
        assert turns.turn() == 0

    def test_traffic_prolongs_it(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        for _ in range(10):
            poller.touch(Active(), 2.0)
            assert turns.turn(1.0) == 1
        assert poller.polling
        assert turns.turn(2.0) == 1
        assert not poller.polling

    def test_it_begins_again(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        for _ in range(2):
            poller.touch(Active(), 1.0)
            assert turns.turn(0.5) == 1
            assert turns.turn(1.0) == 1
            assert turns.turn(1.0) == 0

    def test_many_touches_are_one_callback(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        for _ in range(5):
            poller.touch(Active(), 1.0)
        assert turns.turn() == 1
        for _ in range(5):
            poller.touch(Active(), 1.0)
        assert turns.turn() == 1

    def test_the_longest_wish_counts(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        for seconds in (1.0, 5.0, 2.0):
            poller.touch(Active(), seconds)
        turns.turn()
        poller.touch(Active(), 1.0)
        turns.turn()
        turns.turn(4.0)
        assert poller.polling
        turns.turn(1.0)
        assert not poller.polling

    def test_it_goes_on_while_an_answer_is_due(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        waiting, other = Active(), Active()
        waiting.answer_due = True
        for connection in (waiting, other):
            poller.touch(connection, 1.0)
        assert [turns.turn(10.0) for _ in range(20)] == [1] * 20
        assert poller._active == {waiting}
        waiting.answer_due = False
        assert turns.turn(10.0) == 1
        assert not poller.polling
        assert not poller._active
        assert turns.turn() == 0

    def test_no_answer_is_due_from_a_connection_that_is_gone(self, turns: Turns) -> None:
        poller = BusyPoller(turns)
        gone = Active()
        gone.answer_due = True
        poller.touch(gone, 1.0)
        poller.forget(gone)
        assert [turns.turn(1.0) for _ in range(3)] == [1, 1, 0]
        assert not poller.polling

    def test_a_reactor_that_fails_does_not_end_it_for_ever(self, turns: Turns) -> None:
        class Failing(Active):
            def awaits(self) -> bool:
                raise RuntimeError

        poller = BusyPoller(turns)
        failing = Failing()
        poller.touch(failing, 1.0)
        turns.turn()
        with pytest.raises(RuntimeError):
            turns.turn(1.0)
        poller.forget(failing)
        poller.touch(Active(), 1.0)
        assert turns.turn() == 1


def echo(**options: Any) -> Any:
    class Echo(Recorder):
        def on_message(self, message: Any) -> None:
            super().on_message(message)
            self.connection.send(message)

    return listening(reactor=Echo, **options)


class NotedPoller:
    def __init__(self) -> None:
        self.touched: list[tuple[Any, float]] = []
        self.gone: list[Any] = []

    def touch(self, connection: Any, seconds: float) -> None:
        self.touched.append((connection, seconds))

    def forget(self, connection: Any) -> None:
        self.gone.append(connection)


class InPartsCodec(ByteLineCodec):
    """Takes messages into memory of its own, in parts."""

    def filled(self, size: int) -> None:
        pass  # whose it is does not matter here


async def test_whatever_comes_or_goes_is_traffic() -> None:
    loop = asyncio.get_running_loop()
    poller = NotedPoller()
    async with listening() as (server, _):
        made = PolledConnection(
            loop, InPartsCodec(), Reactor[bytes, bytes](), Limits(), None, poller, 1.0
        )
        await open_transport(loop, lambda: made, server.target, None, None)
        ways: list[Callable[[], None]] = [
            lambda: made.write(b"message\n"),
            lambda: made.send(b"message"),
            lambda: made.write_parts([b"mess", b"age\n"]),
            lambda: made.data_received(b"message\n"),
            lambda: made.filled(7),
        ]
        for count, way in enumerate(ways, 1):
            way()
            assert poller.touched == [(made, 1.0)] * count
        assert poller.gone == []
        made.close()
        await made.wait_closed()
        assert poller.gone == [made]


def cpu_share(before: tuple[float, float]) -> float:
    """How much of a core this process has used since `before`."""
    cpu, wall = before
    return (time.process_time() - cpu) / (time.perf_counter() - wall)


def now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


async def test_the_loop_polls_for_as_long_as_it_is_told_to() -> None:
    async with echo() as (server, _):
        mine = Recorder()
        await connect(server.target, ByteLineCodec(), mine, busy_poll=60.0)
        mine.connection.send(b"x")
        assert await mine.received(1) == [b"x"]
        # Sleeping twenty times takes a few milliseconds, however busy the machine is with others.
        before = time.process_time()
        for _ in range(20):
            await asyncio.sleep(0.1)
            if used := time.process_time() - before > 0.05:
                break
        assert used
        assert poller_of(asyncio.get_running_loop()).polling
        mine.connection.close()
        await mine.closed()


@pytest.mark.parametrize("side", ["client", "server"])
async def test_an_idle_connection_gives_the_core_back(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    client, server = (0.001, None) if side == "client" else (None, 0.001)
    async with echo(busy_poll=server) as (listener, _):
        mine = Recorder()
        await connect(listener.target, ByteLineCodec(), mine, busy_poll=client)
        poller = poller_of(asyncio.get_running_loop())
        for _ in range(3):
            mine.connection.send(b"x")
            assert poller.polling == (side == "client")  # sending is traffic, too
            await mine.received(1)
            assert poller.polling
            await wait_until(lambda: clock.passes_for(poller))
            before = now()
            await asyncio.sleep(0.2)
            assert cpu_share(before) < 0.5
        mine.connection.close()
        await mine.closed()


async def test_connections_of_one_loop_share_a_poller() -> None:
    async with echo(busy_poll=0.01) as (server, reactors):
        poller = poller_of(asyncio.get_running_loop())
        clients = [Recorder() for _ in range(3)]
        for client in clients:
            await connect(server.target, ByteLineCodec(), client, busy_poll=0.02)
            client.connection.send(b"x")
        for client in clients:
            assert await client.received(1) == [b"x"]
        everyone = [each.connection for each in (*clients, *reactors)]
        assert {each._poller for each in everyone} == {poller}
        for client in clients:
            client.connection.close()
            await client.closed()


async def test_it_is_off_by_default() -> None:
    loop = asyncio.get_running_loop()
    assert type(make_connection(loop, ByteLineCodec(), Reactor(), Limits())) is Connection
    async with connected() as (client, server):
        client.connection.send(b"x")
        await server.received(1)
        assert {type(each.connection) for each in (client, server)} == {Connection}
    assert not poller_of(loop).polling


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_loops_that_stop_go_on_polling_and_loops_that_close_do_not(make_loop: Any) -> None:
    loop = make_loop()
    poller = poller_of(loop)
    poller.touch(Active(), 60.0)
    loop.run_until_complete(asyncio.sleep(0))
    before = now()
    loop.run_until_complete(asyncio.sleep(0.2))
    assert cpu_share(before) > 0.05
    assert poller.polling
    loop.close()


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_each_loop_has_its_own(make_loop: Any) -> None:
    loops = [make_loop(), make_loop()]
    pollers = [poller_of(loop) for loop in loops]
    assert pollers[0] is not pollers[1]
    assert poller_of(loops[1]) is pollers[1]
    for loop in loops:
        loop.close()
    count = len(busy_poll._pollers)
    del pollers
    gc.collect()
    assert len(busy_poll._pollers) == count - 2
