"""Limits of a server, by name: RPCs, connections, their age and idleness, and wasted work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from connectivity.peers import Peer
from connectivity.service import Serving, Stub, serving
from service.pair import failure, paired
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.rpc.message import CANCEL
from protosocket_rpc.testing import VirtualClock
from protosocket_rpc.wire.frame import (
    encode_body_frame,
    encode_frame,
    method_field,
    timeout_field,
)

State = ps.ChannelConnectivity
UNARY_FIELD = method_field("/test.Service/Unary")


class Held:
    def __init__(self) -> None:
        self.count = 0
        self.release = asyncio.Event()

    async def __call__(self, request: bytes, context: Any) -> bytes:
        self.count += 1
        await self.release.wait()
        return request


def options(**values: Any) -> dict[str, Any]:
    return {"connectivity": ps.ServerConnectivity(**values)}


async def raw_client(server: Serving) -> Peer:
    host, _, port = server.target.partition(":")
    return Peer(*await asyncio.open_connection(host, int(port)))


# -- RPCs ----------------------------------------------------------------------------------------


async def test_concurrent_rpcs_of_a_server() -> None:
    held = Held()
    async with (
        serving(options={"maximum_concurrent_rpcs": 3}, Unary=held) as server,
        ps.insecure_channel(server.target, connections=2) as channel,
    ):
        stub = Stub(channel)
        calls = [stub.unary(b"") for _ in range(3)]
        await wait_until(lambda: held.count == 3)
        error = await failure(stub.unary(b""))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "maximum_concurrent_rpcs=3" in (error.details() or "")
        held.release.set()
        await asyncio.gather(*calls)
        await stub.unary(b"")  # there is room again


@pytest.mark.parametrize("ending", ["reply", "error", "cancel", "deadline", "lost", "bad request"])
async def test_every_ending_makes_room(ending: str, virtual_clock: VirtualClock) -> None:
    held = Held()
    limit = {"maximum_concurrent_rpcs": 1}
    async with serving("memory:room", options=limit, Unary=held) as server:
        running = server.server._running
        assert running is not None
        async with ps.insecure_channel(server.target) as channel:
            stub = Stub(channel)
            call = stub.unary(b"", timeout=0.02 if ending == "deadline" else None)
            if ending == "bad request":
                metadata = (("key", "x" * 8000),) * 3
                call.cancel()
                await wait_until(lambda: running.rpcs == 0)
                call = stub.unary(b"", metadata=metadata)
                assert await call.code() is ps.StatusCode.RESOURCE_EXHAUSTED
            else:
                await wait_until(lambda: held.count == 1)
                assert running.rpcs == 1
            if ending == "reply" or ending == "error":
                held.release.set()
                await call
            elif ending == "cancel":
                call.cancel()
            elif ending == "deadline":
                assert await call.code() is ps.StatusCode.DEADLINE_EXCEEDED
            elif ending == "lost":
                await channel.close()
            await wait_until(lambda: running.rpcs == 0)


async def test_concurrent_rpcs_of_a_connection() -> None:
    held = Held()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serving(options=options(max_concurrent_rpcs=2), Unary=held)
        )
        stubs = [
            Stub(await stack.enter_async_context(ps.insecure_channel(server.target)))
            for _ in range(2)
        ]
        calls = [stub.unary(b"") for stub in stubs for _ in range(2)]
        await wait_until(lambda: held.count == 4)
        error = await failure(stubs[0].unary(b""))
        assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert "max_concurrent_rpcs=2 on one connection" in (error.details() or "")
        held.release.set()
        await asyncio.gather(*calls)
        await stubs[0].unary(b"")


# -- connections -----------------------------------------------------------------------------------


async def test_connections_of_a_server() -> None:
    async with serving(options=options(max_connections=1)) as server:
        async with ps.insecure_channel(server.target) as first:
            assert await Stub(first).unary(b"x") == b"x"
            async with ps.insecure_channel(server.target) as second:
                error = await failure(Stub(second).unary(b""))
                assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
                assert "max_connections=1" in (error.details() or "")
            assert await Stub(first).unary(b"x") == b"x"
        running = server.server._running
        assert running is not None
        await wait_until(lambda: not running.sessions)
        async with ps.insecure_channel(server.target) as third:
            assert await Stub(third).unary(b"x", wait_for_ready=True) == b"x"


async def test_a_full_server_is_passed_over_for_another() -> None:
    async with (
        serving(options=options(max_connections=1)) as full,
        serving() as other,
        ps.insecure_channel(full.target) as holder,
    ):
        await holder.channel_ready()
        async with ps.insecure_channel(f"{full.target},{other.target}") as channel:
            stub = Stub(channel)
            for _ in range(10):
                assert await stub.unary(b"x") == b"x"


async def test_a_full_server_closes_on_those_who_do_not_listen() -> None:
    async with serving(options=options(max_connections=1)) as server:
        first = await raw_client(server)
        running = server.server._running
        assert running is not None
        await wait_until(lambda: running.sessions)
        second = await raw_client(server)
        await second.read_all()
        assert any(frame.go_away for frame in second.control)
        for peer in (first, second):
            peer.writer.close()


async def test_an_old_connection_is_replaced_and_no_call_notices(
    virtual_clock: VirtualClock,
) -> None:
    async with paired(server=options(max_age=60)) as pair:
        seen = set()
        while virtual_clock.time() < 5 * 60:
            assert await pair.unary(b"x") == b"x"
            seen.add(pair.channel.connector().session)
            await virtual_clock.advance(1)
        assert 4 <= len(seen) <= 6


async def test_connections_of_the_same_age_do_not_end_at_the_same_time(
    virtual_clock: VirtualClock,
) -> None:
    ends: set[float] = set()

    async def use(target: str) -> None:
        async with ps.insecure_channel(target) as channel:
            await channel.channel_ready()
            await channel.wait_for_state_change(State.READY)
            ends.add(virtual_clock.time())

    async with paired(server=options(max_age=60)) as pair:
        await asyncio.gather(*[use(pair.target) for _ in range(20)])
    assert len(ends) > 5
    assert 53 < min(ends) < max(ends) < 70


async def test_calls_of_an_old_connection_end_within_the_grace(virtual_clock: VirtualClock) -> None:
    held = Held()
    async with paired(server=options(max_age=60, max_age_grace=60), Unary=held) as pair:
        error = await failure(pair.unary(b""))
        assert 114 <= virtual_clock.time() <= 130
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert "max_age_grace" in (error.details() or "")


async def test_calls_of_an_old_connection_go_on_without_a_grace(
    virtual_clock: VirtualClock,
) -> None:
    held = Held()
    async with paired(server=options(max_age=0.02), Unary=held) as pair:
        call = pair.unary(b"x")
        await pair.channel.channel_ready()
        await pair.channel.wait_for_state_change(State.READY)
        await virtual_clock.advance(60)
        held.release.set()
        assert await call == b"x"


async def test_an_idle_connection_is_given_up_until_it_is_needed() -> None:
    async with (
        serving(options=options(max_idle=0.02)) as server,
        ps.insecure_channel(server.target) as channel,
    ):
        stub = Stub(channel)
        for _ in range(2):
            assert await stub.unary(b"x") == b"x"
            running = server.server._running
            assert running is not None
            await wait_until(lambda: not running.sessions)  # noqa: B023  # run at once


@pytest.mark.parametrize("used", [False, True])
async def test_a_connection_that_was_idle_is_not_made_again_unasked(
    virtual_clock: VirtualClock, used: bool
) -> None:
    async with paired(server=options(max_idle=10.0)) as pair:
        channel = pair.channel
        await channel.channel_ready()
        if used:
            assert await pair.unary(b"x") == b"x"
        await channel.wait_for_state_change(State.READY)
        for _ in range(100):
            await asyncio.sleep(0)
            assert channel.get_state() is State.IDLE
        await virtual_clock.advance(60)
        assert channel.get_state() is State.IDLE
        assert await pair.unary(b"x") == b"x"


async def test_a_busy_connection_is_not_idle(virtual_clock: VirtualClock) -> None:
    held = Held()
    async with paired(server=options(max_idle=0.02), Unary=held) as pair:
        call = pair.unary(b"x")
        await call.wait_for_connection()
        session = pair.channel.connector().session
        await virtual_clock.advance(60)
        assert pair.channel.connector().session is session
        held.release.set()
        await call


@pytest.mark.parametrize("name", ["max_connections", "max_concurrent_rpcs", "max_age", "max_idle"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"ServerConnectivity.{name} must be above 0, not 0"):
        ps.ServerConnectivity(**{name: 0})


async def test_grpc_options() -> None:
    server = ps.server(
        options=[
            ("grpc.max_connection_age_ms", 1000),
            ("grpc.max_connection_age_grace_ms", 2000),
            ("grpc.max_connection_idle_ms", 3000),
            ("grpc.keepalive_time_ms", 4000),
            ("grpc.keepalive_timeout_ms", 5000),
            ("grpc.http2.min_ping_interval_without_data_ms", 1),
        ]
    )
    assert server.connectivity == ps.ServerConnectivity(
        max_age=1.0,
        max_age_grace=2.0,
        max_idle=3.0,
        keepalive_interval=4.0,
        keepalive_timeout=5.0,
    )


# -- work that nobody waits for --------------------------------------------------------------------


def opening(id: int, body: bytes, timeout: float) -> bytes:
    return encode_body_frame(id, UNARY_FIELD, body, timeout_field(int(timeout * 1e6)))


async def test_a_request_that_waited_for_too_long_is_not_served() -> None:
    """A handler that holds the loop makes those behind it late: they are answered, not served."""
    served: list[bytes] = []

    async def slow(request: bytes, context: Any) -> bytes:
        served.append(request)
        time.sleep(0.03)  # noqa: ASYNC251  # the point
        return request

    async with serving(Unary=slow) as server:
        peer = await raw_client(server)
        peer.writer.write(
            opening(1, b"first", 10)
            + opening(2, b"patient", 10)
            + opening(3, b"late", 0.02)
            + opening(4, b"also late", 0.02)
            + opening(5, b"patient too", 10)
        )
        answers = [await peer.next() for _ in range(5)]
        assert served == [b"first", b"patient", b"patient too"]
        codes = {each.id: each.status.code for each in answers if each.status is not None}
        exceeded = ps.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert codes == {3: exceeded, 4: exceeded}
        peer.writer.close()


async def test_a_request_that_was_given_up_before_it_was_read_is_not_served() -> None:
    """The loop was busy for so long that the client's deadline passed: it has said so since."""
    served: list[bytes] = []

    async def note(request: bytes, context: Any) -> bytes:
        served.append(request)
        return request

    async with serving(Unary=note) as server:
        peer = await raw_client(server)
        peer.writer.write(
            opening(1, b"given up", 10) + opening(2, b"wanted", 10) + encode_frame(1, CANCEL, b"")
        )
        answers = {frame.id: frame for frame in [await peer.next() for _ in range(2)]}
        assert served == [b"wanted"]
        assert answers[2].body == b"wanted"
        assert answers[1].status is not None
        peer.writer.close()


async def test_the_time_of_a_request_in_pieces_runs_from_its_first() -> None:
    started: list[bytes] = []

    async def note(request: bytes, context: Any) -> bytes:
        started.append(request)
        return request

    async with serving(Unary=note) as server:
        peer = await raw_client(server)
        peer.settings()
        more = encode_body_frame(1, UNARY_FIELD, b"half", timeout_field(20_000) + b"\x58\x01")
        peer.writer.write(more)
        answer = await peer.next()
        assert answer.status is not None
        assert answer.status.code == ps.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert not started
        peer.writer.close()


async def test_streams_count_until_they_end() -> None:
    release = asyncio.Event()

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await release.wait()

    async with (
        serving(options={"maximum_concurrent_rpcs": 1}, Replies=replies) as server,
        ps.insecure_channel(server.target) as channel,
    ):
        stub = Stub(channel)
        call = stub.replies(b"")
        assert await call.read() == b"first"
        assert await stub.replies(b"").code() is ps.StatusCode.RESOURCE_EXHAUSTED
        release.set()
        assert await call.read() is ps.EOF
        assert await stub.unary(b"x") == b"x"
