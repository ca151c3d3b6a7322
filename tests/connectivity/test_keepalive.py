"""A peer that has gone silent is found within a set time; one that is only quiet is left alone."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.peers import Peer, listening
from connectivity.service import Stub, make_server, serving
from service.pair import failure, paired
from support import ROOT, Certificates, ServerProcess, server_process, wait_until

import protosocket_rpc as ps
from protosocket_rpc.raw import Binding
from protosocket_rpc.testing import VirtualClock
from protosocket_rpc.wire.frame import Frame

PROGRAM = ROOT / "tests/connectivity/programs/freeze.py"
QUICK = ps.ClientConnectivity(keepalive_interval=0.02, keepalive_timeout=0.02)
QUICK_SERVER = ps.ServerConnectivity(keepalive_interval=0.02, keepalive_timeout=0.02)
# Seconds, of real time where nothing else is said; as long as several intervals and timeouts.
A_WHILE = 0.09
MEMORY = "memory:keepalive"


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[ServerProcess]:
    async with server_process(PROGRAM, *arguments, ready=r"ready (\d+)") as process:
        try:
            yield process
        finally:
            if process.process.returncode is None:
                process.process.send_signal(signal.SIGCONT)


def pings(frames: list[Frame]) -> int:
    return sum(frame.ping is not None for frame in frames)


async def test_a_server_that_stops_answering_is_found() -> None:
    keepalive = ps.ClientConnectivity(keepalive_interval=0.2, keepalive_timeout=0.2)
    async with program("server") as server:
        target = f"127.0.0.1:{server.ready[1]}"
        async with ps.insecure_channel(target, connectivity=keepalive) as channel:
            call = Stub(channel).unary(b"hold")
            await Stub(channel).unary(b"x")
            server.process.send_signal(signal.SIGSTOP)
            begin = time.monotonic()
            error = await failure(call)
            # The interval, the timeout, and a visit before and after each.
            assert time.monotonic() - begin < 8.0  # with the defaults, it takes at least 10
            assert error.code() is ps.StatusCode.UNAVAILABLE
            assert "the server has not answered a ping within 0.2 s" in str(error.__cause__)


def keepalive_of(sock: Any) -> tuple[int, ...]:
    """Whether TCP asks the peer; after how many seconds, how often, and how many times."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    asks = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return (asks, *(sock.getsockopt(socket.IPPROTO_TCP, each) for each in options))


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the system has it not")
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_tcp_looks_after_clients_that_are_not_asked(
    host: str, tls: bool, certificates: Certificates
) -> None:
    """Such as those that never said that they understand pings, and vanish."""
    server = make_server()
    if tls:
        port = server.add_secure_port(f"{host}:0", certificates.server_context())
        channel = ps.secure_channel(f"{host}:{port}", certificates.client_context())
    else:
        port = server.add_insecure_port(f"{host}:0")
        channel = ps.insecure_channel(f"{host}:{port}")
    async with server, channel:
        await Stub(channel).unary(b"", wait_for_ready=True)
        (session,) = server._running.sessions  # type: ignore[union-attr]  # it runs
        assert keepalive_of(session.sender().get_extra_info("socket")) == (1, 60, 15, 4)


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the system has it not")
async def test_a_socket_of_ones_own_keeps_its_own_keepalive() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)
    server = make_server()
    server.add_binding(Binding.of_socket(sock))
    async with server:
        assert keepalive_of(sock)[:2] == (1, 7)


async def test_a_client_that_stops_answering_is_found() -> None:
    connectivity = ps.ServerConnectivity(keepalive_interval=0.2, keepalive_timeout=0.2)
    ended = asyncio.Event()

    async def hold(request: bytes, context: Any) -> bytes:
        if request != b"hold":
            return request
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with (
        serving(options={"connectivity": connectivity}, Unary=hold) as server,
        program("client", server.target) as client,
    ):
        client.process.send_signal(signal.SIGSTOP)
        await ended.wait()  # the handler is told, as by any other loss
        await wait_until(lambda: not server.server._running.sessions)
        client.process.kill()
        await client.process.wait()


async def test_a_quiet_peer_is_asked_and_kept(virtual_clock: VirtualClock) -> None:
    """Both sides at once, for many intervals: nobody is punished for asking or for silence."""
    async with paired(
        server={"connectivity": QUICK_SERVER}, channel={"connectivity": QUICK}
    ) as pair:
        await pair.unary(b"")
        session = pair.channel.connector().session
        await virtual_clock.advance(10)
        assert await pair.unary(b"x") == b"x"
        assert pair.channel.connector().session is session


async def test_an_answer_keeps_the_connection(virtual_clock: VirtualClock) -> None:
    async with (
        listening(MEMORY) as peers,
        ps.insecure_channel(peers.target, connectivity=QUICK) as channel,
    ):
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        peer.settings()
        opening = await peer.next()
        for number in range(5):
            while pings(peer.control) == number:
                await peer.read()
            peer.pong(peer.control[-1].ping)
        peer.reply(opening.id, b"late")
        assert await call == b"late"


async def test_a_peer_without_settings_is_never_asked(virtual_clock: VirtualClock) -> None:
    async with (
        listening(MEMORY) as peers,
        ps.insecure_channel(peers.target, connectivity=QUICK) as channel,
    ):
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        opening = await peer.next()
        await virtual_clock.advance(10)
        peer.reply(opening.id, b"late")
        assert await call == b"late"
        await channel.close()
        await peer.read_all()
        assert pings(peer.control) == 0


async def test_a_peer_that_talks_is_not_asked(virtual_clock: VirtualClock) -> None:
    async with (
        listening(MEMORY) as peers,
        ps.insecure_channel(peers.target, connectivity=QUICK) as channel,
    ):
        call = Stub(channel).replies(b"")
        peer = await peers.accept()
        peer.settings()
        opening = await peer.next()
        for _ in range(30):
            peer.reply(opening.id, b"x")
            await virtual_clock.advance(0.004)
        assert await call.read() == b"x"
        await channel.close()
        await peer.read_all()
        assert pings(peer.control) == 0


async def test_a_silent_peer_is_asked_once_at_a_time(virtual_clock: VirtualClock) -> None:
    keepalive = ps.ClientConnectivity(keepalive_interval=0.05, keepalive_timeout=0.5)
    async with (
        listening(MEMORY) as peers,
        ps.insecure_channel(peers.target, connectivity=keepalive) as channel,
    ):
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        peer.settings()
        await asyncio.gather(failure(call), peer.read_all())
        assert pings(peer.control) == 1


async def test_keepalive_can_be_switched_off(virtual_clock: VirtualClock) -> None:
    off = ps.ClientConnectivity(keepalive_interval=None)
    async with (
        listening(MEMORY) as peers,
        ps.insecure_channel(peers.target, connectivity=off) as channel,
    ):
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        peer.settings()
        opening = await peer.next()
        await virtual_clock.advance(10)
        peer.reply(opening.id, b"")
        await call
        assert pings(peer.control) == 0


async def test_a_loop_that_was_busy_does_not_judge() -> None:
    """Answers that lie unread because this side was busy are no silence."""
    async with (
        serving(options={"connectivity": QUICK_SERVER}) as server,
        ps.insecure_channel(server.target, connectivity=QUICK) as channel,
    ):
        stub = Stub(channel)
        await stub.unary(b"")
        session = channel.connector().session
        for _ in range(3):
            time.sleep(A_WHILE)  # noqa: ASYNC251  # the point
            assert await stub.unary(b"x") == b"x"
            await asyncio.sleep(0.03)  # long enough to ask
        assert channel.connector().session is session


async def test_one_timer_for_all_connections() -> None:
    """However many connections: their channel has one timer, and their server has one."""
    connections = 20
    loop = asyncio.get_running_loop()
    made: list[Any] = []
    call_at = loop.call_at

    def counting(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return call_at(*args, **kwargs)

    async with (
        serving(options={"connectivity": QUICK_SERVER}) as server,
        ps.insecure_channel(server.target, connections=connections, connectivity=QUICK) as channel,
    ):
        await Stub(channel).unary(b"")
        await wait_until(lambda: len(channel.connector().ready) == connections)
        loop.call_at = counting  # type: ignore[method-assign]  # to count
        begin = loop.time()
        await asyncio.sleep(A_WHILE)
        periods = (loop.time() - begin) / 0.01 + 1
        loop.call_at = call_at  # type: ignore[method-assign]  # and no longer
        assert 2 <= len(made) <= 2 * periods + 2


@pytest.mark.parametrize("name", ["keepalive_interval", "keepalive_timeout", "connect_timeout"])
def test_times_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"ClientConnectivity.{name} must be above 0, not -1"):
        ps.ClientConnectivity(**{name: -1})


async def test_grpc_options() -> None:
    options = [("grpc.keepalive_time_ms", 50), ("grpc.keepalive_timeout_ms", 50)]
    async with listening() as peers, ps.insecure_channel(peers.target, options) as channel:
        call = Stub(channel).unary(b"")
        peer: Peer = await peers.accept()
        peer.settings()
        error = await failure(call)
        assert "has not answered a ping within 0.05 s" in str(error.__cause__)
