"""A network that is slow or down, and what becomes of the calls on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kit.linked import Held, linked
from service.pair import KINDS, failure, handlers, result
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock

SOME = {"unary": b"request", "replies": [b"request"] * 3, "requests": b"request"}


async def test_a_link_without_faults_changes_nothing(addresses: tuple[str, str | None]) -> None:
    async with linked(addresses) as calls:
        body = bytes(range(256)) * 8192
        assert await calls.unary(body) == body
        assert [each async for each in calls.both(iter([b"5", b"6"]))] == [b"5", b"6"]
        assert calls.link.connections == 1
        assert calls.link.to_server.bytes > len(body)
        assert calls.link.to_client.bytes > len(body)
        await calls.channel.close()
        await wait_until(lambda: calls.link.connections == 0)


class TestDelay:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_call_takes_the_time_of_both_directions(
        self, virtual_clock: VirtualClock, kind: str
    ) -> None:
        async with linked() as calls:
            await calls.unary(b"")
            began = virtual_clock.time()
            calls.link.to_server.delay(0.3)
            calls.link.to_client.delay(0.2)
            assert await result(calls.start(kind)) == SOME.get(kind, [b"request"])
            assert virtual_clock.time() - began == pytest.approx(0.5)
            calls.link.heal()
            assert await calls.unary(b"x") == b"x"
            assert virtual_clock.time() - began == pytest.approx(0.5)

    async def test_over_sockets(self, addresses: tuple[str, str | None]) -> None:
        async with linked(addresses) as calls:
            await calls.unary(b"")
            calls.link.to_server.delay(0.02)
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await calls.unary(b"late") == b"late"
            assert loop.time() - began >= 0.02 - 0.002  # the loop's clock is coarse

    async def test_order_is_kept_when_it_becomes_shorter(self, virtual_clock: VirtualClock) -> None:
        arrived: list[bytes] = []

        async def note(request: bytes, context: Any) -> bytes:
            arrived.append(request)
            return b""

        async with linked(Unary=note) as calls:
            await calls.unary(b"0")
            calls.link.to_server.delay(5)
            first = calls.unary(b"1")
            await virtual_clock.advance(0)
            calls.link.to_server.delay(0)
            second = calls.unary(b"2")
            await virtual_clock.advance(4)
            assert arrived == [b"0"]
            await asyncio.gather(first, second)
            assert arrived == [b"0", b"1", b"2"]


class TestDrop:
    """Nobody is told, so that a deadline or a keepalive has to find out."""

    @pytest.mark.parametrize("kind", KINDS)
    async def test_on_the_way_to_the_client(self, virtual_clock: VirtualClock, kind: str) -> None:
        held = Held()
        async with linked(**handlers(held)) as calls:
            await calls.unary(b"quick")
            calls.link.to_client.drop()
            error = await failure(calls.start(kind, timeout=5))
            assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
            await virtual_clock.advance(0)
            assert held.ended.is_set()
            calls.link.heal()
            assert await calls.unary(b"quick") == b"quick"
            assert calls.link.connections == 1

    @pytest.mark.parametrize("kind", KINDS)
    async def test_on_the_way_to_the_server(self, virtual_clock: VirtualClock, kind: str) -> None:
        """What arrives when the caller has given it up is not served any more."""
        held = Held()
        async with linked(**handlers(held)) as calls:
            await calls.unary(b"quick")
            calls.link.to_server.drop()
            error = await failure(calls.start(kind, timeout=5))
            assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
            await virtual_clock.advance(0)
            calls.link.heal()
            await virtual_clock.advance(0)
            assert not held.started.is_set()
            assert await calls.unary(b"quick") == b"quick"
            assert calls.link.connections == 1

    @pytest.mark.parametrize("direction", ["to_server", "to_client"])
    async def test_a_server_cancels_what_nobody_can_cancel(
        self, virtual_clock: VirtualClock, direction: str
    ) -> None:
        """The deadline is kept on both sides, whether or not a cancellation gets through."""
        held = Held()
        async with linked(**handlers(held)) as calls:
            call = calls.unary(b"", timeout=5)
            await held.started.wait()
            getattr(calls.link, direction).drop()
            assert (await failure(call)).code() is ps.StatusCode.DEADLINE_EXCEEDED
            await virtual_clock.advance(1 / 256)
            assert held.ended.is_set()

    async def test_what_is_held_back_arrives_later(self, addresses: tuple[str, str | None]) -> None:
        async with linked(addresses) as calls:
            await calls.unary(b"")
            calls.link.to_client.drop()
            before = calls.link.to_client.bytes
            call = calls.unary(b"held")
            await wait_until(lambda: calls.link.to_client.bytes > before)
            assert not call.done()
            calls.link.heal()
            assert await call == b"held"

    async def test_keepalive_finds_out(self, addresses: tuple[str, str | None]) -> None:
        keepalive = ps.ClientConnectivity(keepalive_interval=0.05, keepalive_timeout=0.05)
        async with linked(addresses, channel={"connectivity": keepalive}) as calls:
            await calls.unary(b"")
            calls.link.to_client.drop()
            assert (await failure(calls.unary(b""))).code() is ps.StatusCode.UNAVAILABLE


class TestBackPressure:
    """A writer whose bytes go nowhere is stopped, within a bound, and goes on when they do."""

    # A relay holds 256 KiB; the connections on either side of it hold 64 KiB on their way and a
    # fragment of 256 KiB that waits.
    MOST = 256 + 2 * (64 + 256)
    # No credit stops it: it is the connection that does.
    UNLIMITED = {"limits": ps.RpcLimits(stream_window=1 << 30)}  # noqa: RUF012  # not changed
    MESSAGE = bytes(10_000)
    COUNT = 300

    async def test_of_replies(self, virtual_clock: VirtualClock) -> None:
        sent = 0

        async def pour(request: bytes, context: Any) -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(self.COUNT):
                yield self.MESSAGE
                sent += 1

        async with linked(channel=self.UNLIMITED, Replies=pour) as calls:
            await calls.unary(b"")
            calls.link.to_client.drop()
            call = calls.replies(b"")
            await virtual_clock.advance(1)
            assert 256 <= sent * len(self.MESSAGE) / 1024 <= self.MOST
            calls.link.heal()
            assert await result(call) == [self.MESSAGE] * self.COUNT

    async def test_of_requests(self, virtual_clock: VirtualClock) -> None:
        sent = 0

        async def pour() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(self.COUNT):
                yield self.MESSAGE
                sent += 1

        async with linked(server=self.UNLIMITED) as calls:
            await calls.unary(b"")
            calls.link.to_server.drop()
            call = calls.requests(pour())
            await virtual_clock.advance(1)
            assert 256 <= sent * len(self.MESSAGE) / 1024 <= self.MOST
            calls.link.heal()
            assert await call == self.MESSAGE * self.COUNT
