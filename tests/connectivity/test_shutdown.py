"""Servers end gracefully: nothing is lost, every handler's ``finally`` is awaited."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.peers import Peer
from connectivity.service import SERVICE, Servicer, Stub, serving
from service import raw_peer
from service.pair import failure
from service.sansio import END, F
from support import ROOT, RawPeer, ServerProcess, free_port, server_process, wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

PROGRAM = ROOT / "tests/connectivity/programs/serve.py"


@asynccontextmanager
async def program(port: int = 0, grace: float = 30.0) -> AsyncIterator[ServerProcess]:
    async with server_process(
        PROGRAM, str(port), str(grace), ready=r"listening on (\d+)"
    ) as server:
        yield server


def target_of(server: ServerProcess) -> str:
    return f"127.0.0.1:{server.ready[1]}"


async def line(server: ServerProcess) -> str:
    assert server.process.stdout is not None
    return (await server.process.stdout.readline()).decode().strip()


class Held:
    """A handler that is held until it is released, and takes its time to clean up."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cleaned_up = False

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.started.set()
        try:
            await self.release.wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            self.cleaned_up = True
        return request


# -- in one process ------------------------------------------------------------------------------


async def test_connections_that_end_while_it_stops_do_not_cut_the_grace_short() -> None:
    """It takes a few turns of the loop to stop listening: clients come and go meanwhile."""
    held = Held()
    server = ps.server()
    server.add(Servicer(Unary=held), SERVICE)
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(8)]
    await server.start()
    async with ps.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        peer = await RawPeer.connect(f"127.0.0.1:{ports[1]}")
        await peer.read()
        call = Stub(channel).unary(b"x")
        await held.started.wait()
        stopping = asyncio.ensure_future(server.stop(60.0))
        peer.close()
        await channel.wait_for_state_change(ps.ChannelConnectivity.READY)
        await asyncio.sleep(0)
        held.release.set()
        assert await call == b"x"
        await stopping


async def test_stop_lets_rpcs_end_within_the_grace() -> None:
    held = Held()
    async with serving(Unary=held) as server, ps.insecure_channel(server.target) as channel:
        call = Stub(channel).unary(b"x")
        await held.started.wait()
        stopping = asyncio.ensure_future(server.server.stop(60.0))
        await channel.wait_for_state_change(ps.ChannelConnectivity.READY)
        assert not stopping.done()
        held.release.set()
        assert await call == b"x"
        await stopping


async def test_stop_cancels_what_is_left_and_awaits_it() -> None:
    held = Held()
    async with serving(Unary=held) as server, ps.insecure_channel(server.target) as channel:
        call = Stub(channel).unary(b"x")
        await held.started.wait()
        await server.server.stop(0.01)
        assert held.cleaned_up
        error = await failure(call)
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert error.details() == "the server is shutting down"


async def test_stop_without_grace_awaits_handlers_too() -> None:
    held = Held()
    async with serving(Unary=held) as server, ps.insecure_channel(server.target) as channel:
        call = Stub(channel).unary(b"x")
        await held.started.wait()
        await server.server.stop()
        assert held.cleaned_up
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE


async def test_stop_closes_generators_of_streams() -> None:
    closed = asyncio.Event()

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            await asyncio.sleep(0)
            closed.set()

    async with serving(Replies=replies) as server, ps.insecure_channel(server.target) as channel:
        call = Stub(channel).replies(b"")
        await call.read()
        await server.server.stop()
        assert closed.is_set()
        call.cancel()


async def test_a_second_stop_cuts_the_grace_short() -> None:
    held = Held()
    async with serving(Unary=held) as server, ps.insecure_channel(server.target) as channel:
        call = Stub(channel).unary(b"x")
        await held.started.wait()
        first = asyncio.ensure_future(server.server.stop(3600.0))
        await asyncio.sleep(0)
        await server.server.stop()
        await first
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(("graces", "ends"), [((60, 5), 6), ((5, 60), 5), ((60, 30, 5, 20), 7)])
async def test_of_several_graces_the_one_that_ends_first_counts(
    graces: tuple[float, ...], ends: float, virtual_clock: VirtualClock
) -> None:
    """Each begins a second after the one before."""
    held = Held()
    address = "memory:graces"
    async with (
        serving(address, Unary=held) as server,
        ps.insecure_channel(address) as channel,
    ):
        call = Stub(channel).unary(b"x")
        await held.started.wait()
        begin = virtual_clock.time()
        stops = []
        for grace in graces:
            stops.append(asyncio.ensure_future(server.server.stop(grace)))
            await asyncio.sleep(1.0)
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE
        assert virtual_clock.time() - begin == pytest.approx(ends)
        await asyncio.gather(*stops)
        assert held.cleaned_up
    assert all(timer.cancelled() for timer in virtual_clock._scheduled)


async def test_idle_clients_do_not_hold_a_server() -> None:
    async with serving() as server:
        channels = [ps.insecure_channel(server.target) for _ in range(5)]
        for channel in channels:
            await channel.channel_ready()
        await asyncio.wait_for(server.server.stop(3600.0), 10.0)
        for channel in channels:
            await channel.close()


async def test_a_client_that_does_not_close_does_not_hold_a_server() -> None:
    async with serving() as server:
        host, _, port = server.target.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        peer = Peer(reader, writer)
        peer.settings()  # so it knows what going away means
        await wait_until(lambda: server.server._running.sessions)
        await asyncio.wait_for(server.server.stop(3600.0), 10.0)
        writer.close()
        with pytest.raises(EOFError):
            await peer.next()


async def test_an_rpc_that_comes_late_does_not_hold_a_server() -> None:
    held = Held()
    async with serving(Unary=held) as server:
        host, _, port = server.target.partition(":")
        peer = raw_peer.RawPeer(*await asyncio.open_connection(host, int(port)))
        peer.settings()
        peer.sends(F(2, method="/test.Service/Unary", body=b"x"))
        await held.started.wait()
        stopping = asyncio.ensure_future(server.server.stop(3600.0))
        while peer.farewell is None:
            assert await peer.read()
        peer.sends(F(1, method="/test.Service/Unary", body=b"x"))
        assert await peer.hears() == F(1, status=(14, "the server is going away"))
        assert await peer.hears() == F(1, END)
        held.release.set()
        assert (await peer.hears()).id == 2
        await asyncio.wait_for(stopping, 10.0)
        peer.writer.close()
        await peer.writer.wait_closed()


async def test_those_who_have_connected_are_told_to_go_elsewhere() -> None:
    """A client may be connected as far as the system is concerned, and not accepted yet."""
    async with serving() as old, serving() as new:
        # The loop has no turn between these connections and the end of the server.
        host, _, port = old.target.partition(":")
        sock = socket.create_connection((host, int(port)))
        stopping = asyncio.ensure_future(old.server.stop(3600.0))
        sock.setblocking(False)
        peer = Peer(*await asyncio.open_connection(sock=sock))
        peer.settings()
        with pytest.raises(EOFError):
            await asyncio.wait_for(peer.next(), 10)
        assert b"shutting down" in peer.heard
        await stopping
        peer.writer.close()
        await peer.writer.wait_closed()
        async with ps.insecure_channel(new.target) as channel:
            assert await Stub(channel).unary(b"x") == b"x"


async def test_serve_forever_ends_with_its_task() -> None:
    held = Held()
    server = ps.server()
    server.add(Servicer(Unary=held), SERVICE)
    port = server.add_insecure_port("127.0.0.1:0")
    serving = asyncio.ensure_future(server.serve_forever())
    async with ps.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = Stub(channel).unary(b"", wait_for_ready=True)
        await held.started.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert held.cleaned_up
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE


async def test_serve_forever_ends_with_stop() -> None:
    server = ps.server()
    server.add_insecure_port("127.0.0.1:0")
    serving = asyncio.ensure_future(server.serve_forever())
    await wait_until(lambda: server._running)
    await server.stop()
    await serving


async def test_serve_forever_serves_nobody_without_a_port() -> None:
    with pytest.raises(ps.UsageError, match="no port: add one by add_insecure_port"):
        await ps.server().serve_forever()


async def test_a_server_without_a_port_starts_and_stops() -> None:
    """As one of grpc.aio does."""
    server = ps.server()
    await server.start()
    assert await server.wait_for_termination(0.001)
    await server.stop(None)


async def test_serve_forever_leaves_no_signal_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    server = ps.server()
    server.add_insecure_port("127.0.0.1:0")
    serving = asyncio.ensure_future(server.serve_forever())
    await wait_until(lambda: server._running)
    assert signal.getsignal(signal.SIGTERM) != before
    await server.stop()
    await serving
    assert signal.getsignal(signal.SIGTERM) == before


# -- as processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_server_when_its_rpcs_have_ended(number: signal.Signals) -> None:
    async with program() as server, ps.insecure_channel(target_of(server)) as channel:
        call = Stub(channel).unary(b"0.2")
        await call.wait_for_connection()
        await Stub(channel).unary(b"0")  # so the one before has arrived
        server.process.send_signal(number)
        assert await call == b"0.2"
        assert await line(server) == "ended"
        assert await server.process.wait() == 0


async def test_a_signal_cancels_what_outlasts_the_grace() -> None:
    async with program(grace=0.05) as server, ps.insecure_channel(target_of(server)) as channel:
        call = Stub(channel).unary(b"hold")
        assert await line(server) == "holding"
        server.process.terminate()
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE
        assert await line(server) == "cleaned up"
        assert await line(server) == "ended"
        assert await server.process.wait() == 0


async def test_a_second_signal_forces() -> None:
    async with program(grace=3600) as server, ps.insecure_channel(target_of(server)) as channel:
        call = Stub(channel).unary(b"hold")
        assert await line(server) == "holding"
        server.process.terminate()
        await channel.wait_for_state_change(ps.ChannelConnectivity.READY)
        assert not call.done()
        server.process.send_signal(signal.SIGINT)
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE
        assert await line(server) == "cleaned up"
        assert await line(server) == "ended"
        assert await server.process.wait() == 0


async def test_a_third_signal_has_its_usual_effect() -> None:
    async with program(grace=3600) as server, ps.insecure_channel(target_of(server)) as channel:
        call = Stub(channel).unary(b"stubborn")
        assert await line(server) == "holding"
        server.process.terminate()
        await channel.wait_for_state_change(ps.ChannelConnectivity.READY)
        server.process.terminate()
        assert await line(server) == "ignored"
        server.process.terminate()
        assert await server.process.wait() == -signal.SIGTERM
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE


async def test_run_is_a_whole_main_program() -> None:
    source = (
        "import protosocket_rpc as ps\n"
        "from tests.connectivity.service import SERVICE, Servicer\n"
        "server = ps.server()\n"
        "server.add(Servicer(), SERVICE)\n"
        "print('listening on', server.add_insecure_port('127.0.0.1:0'), flush=True)\n"
        "ps.run(server)\n"
        "print('ended', flush=True)\n"
    )
    async with (
        server_process("-c", source, ready=r"listening on (\d+)") as server,
        ps.insecure_channel(target_of(server)) as channel,
    ):
        assert await Stub(channel).unary(b"x", wait_for_ready=True) == b"x"
        server.process.send_signal(signal.SIGINT)
        assert await line(server) == "ended"
        assert await server.process.wait() == 0


@pytest.mark.parametrize("run", ["ps.run(server)", "asyncio.run(server.serve_forever())"])
async def test_signals_have_their_usual_effects_in_forked_children(run: str) -> None:
    """A pool ends its processes by SIGTERM, and waits for them."""
    source = (
        "import asyncio, multiprocessing, signal\n"
        "import protosocket_rpc as ps\n"
        "from tests.connectivity.service import SERVICE, Servicer\n"
        "def effects():\n"
        "    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]\n"
        "    assert handlers == [signal.SIG_DFL, signal.default_int_handler], handlers\n"
        "    assert signal.set_wakeup_fd(-1) == -1\n"
        "def unary(request, context):\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "        pool.apply(effects)\n"
        "    return b'ended'\n"
        "server = ps.server()\n"
        "server.add(Servicer(Unary=unary), SERVICE)\n"
        "print('listening on', server.add_insecure_port('127.0.0.1:0'), flush=True)\n"
        f"{run}\n"
        "print('ended', flush=True)\n"
    )
    async with (
        server_process("-c", source, ready=r"listening on (\d+)") as server,
        ps.insecure_channel(target_of(server)) as channel,
    ):
        for _ in range(2):
            assert await Stub(channel).unary(b"", wait_for_ready=True, timeout=20) == b"ended"
        server.process.terminate()
        assert await line(server) == "ended"
        assert await server.process.wait() == 0


# -- a rolling restart ---------------------------------------------------------------------------


class Load:
    """Calls of all four kinds, as many at a time as wanted, without a pause."""

    def __init__(self, channel: ps.Channel) -> None:
        self._stub = Stub(channel)
        self._running = True
        self.calls: Counter[str] = Counter()

    async def run(self, workers: int) -> None:
        kinds = [self._unary, self._replies, self._requests, self._both]
        await asyncio.gather(*(self._work(kinds[n % len(kinds)]) for n in range(workers)))

    def stop(self) -> None:
        self._running = False

    async def _work(self, kind: Any) -> None:
        while self._running:
            await kind()
            self.calls[kind.__name__] += 1

    async def _unary(self) -> None:
        assert await self._stub.unary(b"0.001") == b"0.001"

    async def _replies(self) -> None:
        assert [reply async for reply in self._stub.replies(b"0.001")] == [b"0.001"] * 3

    async def _requests(self) -> None:
        assert await self._stub.requests([b"a", b"b", b"c"]) == b"abc"

    async def _both(self) -> None:
        call = self._stub.both()
        for number in range(3):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is ps.EOF


@pytest.mark.timeout(120)
async def test_a_rolling_restart_loses_no_call() -> None:
    """Two servers, restarted in turn under load: the client sees no error at all."""
    ports = [free_port(), free_port()]
    target = ",".join(f"127.0.0.1:{port}" for port in ports)
    often = ps.ClientConnectivity(first_backoff=0.02, longest_backoff=0.1)
    rounds = 2

    async with ps.insecure_channel(target, connectivity=often) as channel:
        load = Load(channel)
        ready = channel.connector
        turns = [asyncio.Event() for _ in range(rounds * len(ports))]

        async def keep_up(index: int) -> None:
            """One server, ended and started again each time that it is its turn."""
            for turn in [*turns[index :: len(ports)], None]:
                async with program(ports[index]) as server:
                    if turn is None:
                        await finished.wait()
                        return
                    await turn.wait()
                    server.process.terminate()
                    await server.process.wait()
                    assert server.process.returncode == 0

        finished = asyncio.Event()
        servers = [asyncio.ensure_future(keep_up(index)) for index in range(len(ports))]
        await channel.channel_ready()
        working = asyncio.ensure_future(load.run(16))
        for turn in turns:
            before = load.calls.total()
            await wait_until(lambda: working.done() or len(ready().ready) == len(ports))
            await wait_until(lambda b=before: working.done() or load.calls.total() > b + 100)
            turn.set()
            await wait_until(lambda: working.done() or len(ready().ready) == 1)
        await wait_until(lambda: working.done() or len(ready().ready) == len(ports))
        load.stop()
        await working  # no error at all
        assert set(load.calls) == {"_unary", "_replies", "_requests", "_both"}
        finished.set()
        await asyncio.gather(*servers)


async def test_a_server_that_cannot_listen_on_one_port_listens_on_none() -> None:
    first, second = ps.server(), ps.server()
    port = first.add_insecure_port("127.0.0.1:0")
    ports = [second.add_insecure_port(f"127.0.0.1:{each}") for each in (0, port, 0)]
    async with first:
        with pytest.raises(OSError, match="in use"):
            await second.start()
        for each in (ports[0], ports[2]):
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", each)
        await second.stop()
        assert not await second.wait_for_termination(1)
