"""Connections that end while calls are served: each call ends once, on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from kit.linked import Held, linked
from service.pair import KINDS, failure, handlers
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import Link, VirtualClock

FAULTS: dict[str, Callable[[Link], object]] = {
    "cut to the client": lambda link: link.to_client.cut(),
    "cut to the server": lambda link: link.to_server.cut(),
    "cut in the middle of a reply": lambda link: link.to_client.cut(after=1),
    "cut in the middle of a request": lambda link: link.to_server.cut(after=1),
    "half-close to the client": lambda link: link.to_client.half_close(),
    "half-close to the server": lambda link: link.to_server.half_close(),
    "reset": lambda link: link.reset(),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_connection_ends(fault: str, kind: str, addresses: tuple[str, str | None]) -> None:
    """The caller is told, the handler is cancelled, and the next call has a new connection."""
    held = Held()
    async with linked(addresses, **handlers(held)) as calls:
        await calls.unary(b"quick")  # what is said first has been said
        call = calls.start(kind)
        await held.started.wait()
        FAULTS[fault](calls.link)
        if "in the middle" in fault:  # of those of another call
            assert (await failure(calls.unary(b"quick"))).code() is ps.StatusCode.UNAVAILABLE
            served = held.served.count(b"quick")
            assert served == (2 if fault == "cut in the middle of a reply" else 1)
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE
        await held.ended.wait()
        assert await calls.unary(b"quick", wait_for_ready=True) == b"quick"
        await wait_until(lambda: calls.link.connections == 1)


async def test_why_it_was_cut(addresses: tuple[str, str | None]) -> None:
    async with linked(addresses) as calls:
        await calls.unary(b"")
        calls.link.to_client.cut(after=1)
        error = await failure(calls.unary(b""))
        assert "middle of a message" in str(error.__cause__)


@pytest.mark.parametrize("whole", [0, 1, 3])
async def test_what_came_before_the_cut_is_delivered(whole: int) -> None:
    go = asyncio.Event()

    async def pour(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await go.wait()
        for _ in range(5):
            yield b"x" * 100

    async with linked(Replies=pour) as calls:
        call = calls.replies(b"")
        assert await call.read() == b"first"
        calls.link.to_client.cut(after=whole * 110 + 50)  # a frame is a little above 100 bytes
        go.set()
        for _ in range(whole):
            assert await call.read() == b"x" * 100
        with pytest.raises(ps.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is ps.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("whole", [0, 1, 3])
async def test_what_came_before_the_cut_is_served(virtual_clock: VirtualClock, whole: int) -> None:
    arrived: list[bytes] = []
    ended: list[str] = []

    async def take(requests: AsyncIterator[bytes], context: Any) -> bytes:
        try:
            while (request := await context.read()) is not ps.EOF:
                arrived.append(request)
        finally:
            ended.append("once")
        return b""

    async with linked(Requests=take) as calls:
        call = calls.requests()
        await call.write(b"first")
        await virtual_clock.advance(0)
        calls.link.to_server.cut(after=whole * 110 + 50)
        for _ in range(5):
            await call.write(b"x" * 100)
        assert (await failure(call)).code() is ps.StatusCode.UNAVAILABLE
        await virtual_clock.advance(0)
        assert arrived == [b"first"] + [b"x" * 100] * whole
        assert ended == ["once"]


async def test_half_closed_without_calls(addresses: tuple[str, str | None]) -> None:
    """The client believes the server to be gone, and connects again."""
    async with linked(addresses) as calls:
        await calls.unary(b"")
        calls.link.to_client.half_close()
        await wait_until(lambda: calls.channel.get_state() is not ps.ChannelConnectivity.READY)
        assert await calls.unary(b"x", wait_for_ready=True) == b"x"


async def test_connections_that_are_refused() -> None:
    async with linked() as calls:
        calls.link.refuse()
        assert (await failure(calls.unary(b""))).code() is ps.StatusCode.UNAVAILABLE
        calls.link.heal()
        assert await calls.unary(b"x", wait_for_ready=True) == b"x"


async def test_a_server_that_is_not_there() -> None:
    async with (
        Link("memory:nobody") as link,
        ps.insecure_channel(link.target) as channel,
    ):
        unary = channel.unary_unary("/test.Service/Unary")
        assert (await failure(unary(b""))).code() is ps.StatusCode.UNAVAILABLE
        await wait_until(lambda: link.connections == 0)
