"""What the library measures, on a clock that the test moves: minutes take milliseconds."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable
from itertools import pairwise
from typing import Any

import pytest
from connectivity.service import Stub, make_server
from service.pair import KINDS, failure, handlers
from support import Certificates

import protosocket_rpc as ps
from protosocket_rpc.testing import Pair, VirtualClock, linked_pair, pair

State = ps.ChannelConnectivity
# Seconds.
LONG = 600.0
MOST_LATE = 1 / 256


def connectivity(**options: Any) -> dict[str, Any]:
    return {"connectivity": ps.ServerConnectivity(**options)}


def start(made: Pair, kind: str, **options: Any) -> Any:
    request: Any = b"" if kind in ("unary", "replies") else iter([b""])
    return getattr(Stub(made.channel), kind)(request, **options)


async def forever(request: Any, context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


@pytest.mark.parametrize("timeout", [0.1, 30.0, LONG])
@pytest.mark.parametrize("kind", KINDS)
async def test_deadlines(virtual_clock: VirtualClock, kind: str, timeout: float) -> None:
    """On both sides: the handler is cancelled when the caller is told."""
    cancelled: list[float] = []

    async def hold(request: Any, context: Any) -> None:
        assert context.time_remaining() == pytest.approx(timeout, abs=1e-5)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(virtual_clock.time())

    async with pair(server=make_server(**handlers(hold))) as made:
        error = await failure(start(made, kind, timeout=timeout))
        assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
        assert 0 <= virtual_clock.time() - timeout <= MOST_LATE
        await virtual_clock.advance(MOST_LATE)
    (when,) = cancelled
    assert 0 <= when - timeout <= MOST_LATE


async def test_advancing_to_a_deadline(virtual_clock: VirtualClock) -> None:
    virtual_clock.auto = False
    async with pair(server=make_server(Unary=forever)) as made:
        call = Stub(made.channel).unary(b"", timeout=30)
        await virtual_clock.advance(29)
        assert call.time_remaining() == 1.0
        assert not call.done()
        await virtual_clock.advance(1)
        assert call.done()
        assert await call.code() is ps.StatusCode.DEADLINE_EXCEEDED


async def test_a_deadline_that_is_inherited(virtual_clock: VirtualClock) -> None:
    left: list[float] = []

    async def inner(request: bytes, context: Any) -> bytes:
        left.append(context.time_remaining())
        return b""

    async with pair(server=make_server(Unary=inner)) as behind:

        async def outer(request: bytes, context: Any) -> bytes:
            await asyncio.sleep(25)
            reply: bytes = await Stub(behind.channel).unary(b"")
            return reply

        async with pair(server=make_server(Unary=outer)) as made:
            await Stub(made.channel).unary(b"", timeout=60)
    assert left == [pytest.approx(35, abs=1e-5)]


async def test_keepalive_finds_a_network_that_is_down(virtual_clock: VirtualClock) -> None:
    """Within the interval, the timeout, and the visits in between; on either side."""
    ended: list[float] = []

    async def hold(request: bytes, context: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(virtual_clock.time())
        return b""

    async with linked_pair(server=make_server(Unary=hold)) as made:
        call = Stub(made.channel).unary(b"")
        await virtual_clock.advance(LONG)
        assert not call.done()  # asked for a sign of life again and again, and gave it
        made.link.to_server.drop()
        made.link.to_client.drop()
        error = await failure(call)
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert 10 <= virtual_clock.time() - LONG <= 10 + 10 + 2 * 2.5  # ClientConnectivity's
        await virtual_clock.advance(LONG)
        (when,) = ended
        assert 10 <= when - LONG <= 30 + 10 + 2 * 2.5  # ServerConnectivity's


async def test_backoff(virtual_clock: VirtualClock) -> None:
    """Attempts to reach a server that is not there: ever later, up to the longest pause."""
    async with linked_pair(server=make_server()) as made:
        made.link.refuse()
        attempts: list[float] = []
        channel = made.channel
        channel.get_state(try_to_connect=True)
        state = channel.get_state()
        while virtual_clock.time() < LONG:
            await channel.wait_for_state_change(state)
            state = channel.get_state()
            if state is State.CONNECTING:
                attempts.append(virtual_clock.time())
        pauses = [later - earlier for earlier, later in pairwise(attempts)]
        assert pauses[0] < 1
        assert min(pauses[20:]) >= 20 * 0.8
        assert max(pauses) <= 20 * 1.2 + 1
        made.link.heal()
        assert await Stub(channel).unary(b"x", wait_for_ready=True) == b"x"


async def test_a_connection_that_is_never_made(
    virtual_clock: VirtualClock, certificates: Certificates
) -> None:
    """`connect_timeout`, over a socket: the server takes the connection, and says nothing."""
    trusting = ps.ssl_channel_credentials(certificates.authority.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        async with ps.secure_channel(target, trusting) as channel:
            error = await failure(Stub(channel).unary(b""))
            assert error.code() is ps.StatusCode.UNAVAILABLE
            assert virtual_clock.time() == pytest.approx(20.0)  # ClientConnectivity's


async def test_idle_connections_are_given_up(virtual_clock: VirtualClock) -> None:
    async with pair(server=make_server(connectivity(max_idle=LONG))) as made:
        await Stub(made.channel).unary(b"")
        connector = made.channel.connector()
        used = connector.session
        await virtual_clock.advance(LONG - 10)
        assert connector.session is used
        await virtual_clock.advance(20)  # connections are looked at every few seconds
        assert connector.session is not used
        await virtual_clock.advance(LONG)  # and the one that came in its place
        assert made.channel.get_state() is State.IDLE
        assert await Stub(made.channel).unary(b"x") == b"x"


async def test_old_connections_are_replaced(virtual_clock: VirtualClock) -> None:
    options = connectivity(max_age=LONG, max_age_grace=60)
    async with pair(server=make_server(options, Unary=forever)) as made:
        error = await failure(Stub(made.channel).unary(b""))
        assert "max_age_grace" in (error.details() or "")
        assert 0.9 * LONG + 60 <= virtual_clock.time() <= 1.1 * LONG + 60 + 2 * 5


async def test_the_grace_of_a_stop(virtual_clock: VirtualClock) -> None:
    async with pair(server=make_server(Unary=forever)) as made:
        call = Stub(made.channel).unary(b"")
        await virtual_clock.advance(0)
        await made.server.stop(LONG)
        assert virtual_clock.time() == pytest.approx(LONG, abs=10)
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE


async def test_over_sockets(virtual_clock: VirtualClock) -> None:
    """Time passes too, once nothing has come for the clock's patience."""
    server = make_server(Replies=handlers(forever)["Replies"])
    port = server.add_insecure_port("127.0.0.1:0")
    async with server, ps.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = Stub(channel)
        assert await stub.unary(b"x", timeout=30) == b"x"
        began = virtual_clock.time()
        call = stub.replies(b"", timeout=5)
        assert (await failure(call)).code() is ps.StatusCode.DEADLINE_EXCEEDED
        assert 5 <= virtual_clock.time() - began <= 5 + MOST_LATE


async def course(clock: VirtualClock) -> list[tuple[float, int, str]]:
    """What becomes of calls on a bad network, and when."""
    random.seed(7)
    rng = random.Random(7)
    seen: list[tuple[float, int, str]] = []

    async def answer(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(rng.random() * 10)
        return request

    async def call(number: int, reply: Awaitable[bytes]) -> None:
        try:
            await reply
            seen.append((clock.time(), number, "ok"))
        except ps.AioRpcError as error:
            seen.append((clock.time(), number, error.code().name))

    async with linked_pair(server=make_server(Unary=answer)) as made:
        made.link.to_client.delay(0.5)
        unary = Stub(made.channel).unary
        calls = []
        for number in range(50):
            calls.append(call(number, unary(b"", timeout=rng.random() * 15)))
            if number == 25:
                clock.call_later(4, made.link.reset)
        await asyncio.gather(*calls)
    return seen


async def test_the_same_course_each_time(virtual_clock: VirtualClock) -> None:
    one = await course(virtual_clock)
    assert {what for _, _, what in one} == {"ok", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
    with_another = VirtualClock()
    try:
        other = await asyncio.to_thread(
            lambda: with_another.run_until_complete(course(with_another))
        )
    finally:
        with_another.close()
    assert other == one
