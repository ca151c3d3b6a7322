"""Calls with busy polling: the same calls, and no core for streams in which nothing happens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from raw.polling import Clock
from service.pair import paired, result
from support import Certificates, wait_until

import protosocket_rpc as ps
from protosocket_rpc.raw.busy_poll import poller_of

POLL = 0.002
BOTH_SIDES: dict[str, Any] = {
    "server": {"connectivity": ps.ServerConnectivity(busy_poll=POLL)},
    "channel": {"connectivity": ps.ClientConnectivity(busy_poll=POLL)},
}


@pytest.mark.parametrize("size", [11, 300_000, 1 << 20])
async def test_all_four_kinds(size: int) -> None:
    body = random.Random(size).randbytes(size)
    async with paired(**BOTH_SIDES) as pair:
        for _ in range(3):
            assert await pair.unary(body) == body
            assert await result(pair.replies(body)) == [body] * 3
            assert await pair.requests([body, b""]) == body
            assert await result(pair.both([body, b"", body])) == [body, b"", body]
        assert await asyncio.gather(*[pair.unary(b"%d" % n) for n in range(300)]) == [
            b"%d" % n for n in range(300)
        ]


async def test_over_tls(certificates: Certificates) -> None:
    server = ps.server(connectivity=ps.ServerConnectivity(busy_poll=POLL))

    async def unary(request: bytes, context: Any) -> bytes:
        return request

    handler = ps.unary_unary_rpc_method_handler(unary)
    server.add_registered_method_handlers("test.Service", {"Unary": handler})
    port = server.add_secure_port("localhost:0", certificates.server_context())
    async with (
        server,
        ps.secure_channel(
            f"localhost:{port}",
            certificates.client_context(),
            connectivity=ps.ClientConnectivity(busy_poll=POLL),
        ) as channel,
    ):
        call = channel.unary_unary("/test.Service/Unary")
        assert [await call(b"%d" % n) for n in range(10)] == [b"%d" % n for n in range(10)]


async def test_a_stream_in_which_nothing_happens_uses_no_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    release = asyncio.Event()

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"first"
        await release.wait()
        yield b"last"

    async with paired(**BOTH_SIDES, Replies=replies) as pair:
        call = pair.replies(b"")
        assert await call.read() == b"first"
        poller = poller_of(asyncio.get_running_loop())
        assert poller.polling
        await wait_until(lambda: clock.passes_for(poller))
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(0.3)
        assert time.process_time() - cpu < 0.5 * (time.perf_counter() - wall)
        release.set()
        assert await call.read() == b"last"
        assert poller.polling
        assert await call.read() is ps.EOF


@pytest.mark.parametrize("side", ["server", "channel"])
@pytest.mark.parametrize("kind", ["unary", "requests"])
async def test_polling_goes_on_until_the_reply(
    side: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    begun, release = asyncio.Event(), asyncio.Event()

    async def unary(request: bytes, context: Any) -> bytes:
        begun.set()
        await release.wait()
        return request

    async def requests(stream: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([await unary(each, context) async for each in stream])

    handlers = {"Unary": unary, "Requests": requests}
    async with paired(**{side: BOTH_SIDES[side]}, **handlers) as pair:
        call = asyncio.ensure_future(
            pair.unary(b"late") if kind == "unary" else pair.requests([b"late"])
        )
        await begun.wait()
        poller = poller_of(asyncio.get_running_loop())
        for _ in range(100):  # many times longer than it polls after traffic
            assert not clock.passes_for(poller)
            await asyncio.sleep(0)
        release.set()
        assert await call == b"late"
        assert poller.polling
        await wait_until(lambda: clock.passes_for(poller))


async def test_deadlines_are_kept_while_the_loop_polls() -> None:
    async def unary(request: bytes, context: Any) -> bytes:
        await asyncio.Event().wait()
        return request

    sides: dict[str, Any] = {
        "server": {"connectivity": ps.ServerConnectivity(busy_poll=60.0)},
        "channel": {"connectivity": ps.ClientConnectivity(busy_poll=60.0)},
    }
    async with paired(**sides, Unary=unary) as pair:
        with pytest.raises(ps.AioRpcError) as caught:
            await pair.unary(b"", timeout=0.05)
        assert caught.value.code() is ps.StatusCode.DEADLINE_EXCEEDED
        assert poller_of(asyncio.get_running_loop()).polling


@pytest.mark.parametrize("kind", [ps.ClientConnectivity, ps.ServerConnectivity])
@pytest.mark.parametrize("seconds", [0, -1])
def test_times_that_make_no_sense(kind: Any, seconds: float) -> None:
    with pytest.raises(ValueError, match="busy_poll must be above 0"):
        kind(busy_poll=seconds)
