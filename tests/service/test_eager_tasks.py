"""The loop's own way of starting tasks may be another: at once, from Python 3.12 on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectivity.peers import listening
from connectivity.service import Stub, serving
from service.pair import KINDS, TCP, paired, result
from support import free_port

import protosocket_rpc as ps


def at_once(loop: Any, coro: Any, *, name: Any = None, context: Any = None, **_: Any) -> Any:
    """As `asyncio.eager_task_factory`, which does not take what uvloop gives it in 3.13.0."""
    task: Any = asyncio.Task
    return task(coro, loop=loop, name=name, context=context, eager_start=True)


FACTORIES: dict[str, Any] = {"later": None}
if hasattr(asyncio, "eager_task_factory"):
    FACTORIES["at-once"] = at_once
REPLY = {"unary": b"request", "replies": [b"request"] * 3, "requests": b"request"}
FAST = ps.ClientConnectivity(first_backoff=0.01, longest_backoff=0.05)


@pytest.fixture(params=FACTORIES.values(), ids=FACTORIES.keys(), autouse=True)
async def _factory(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(request.param)
    yield
    loop.set_task_factory(None)


async def passes_on(call: Any, next: Any) -> AsyncIterator[Any]:
    async for reply in next(call):
        yield reply


@pytest.mark.parametrize("interceptors", [[], [passes_on]], ids=["bare", "intercepted"])
@pytest.mark.parametrize("address", [None, TCP], ids=["memory", "tcp"])
@pytest.mark.parametrize("kind", KINDS)
async def test_calls(kind: str, address: str | None, interceptors: list[Any]) -> None:
    channel = {"interceptors": interceptors}
    async with paired(address, channel=channel, server={"interceptors": interceptors}) as calls:
        for _ in range(3):
            assert await result(calls.start(kind)) == REPLY.get(kind, [b"request"])
        many = [calls.start(kind) for _ in range(20)]
        assert await asyncio.gather(*map(result, many)) == [REPLY.get(kind, [b"request"])] * 20
        call = calls.start(kind, metadata=[("a", "b")], timeout=60)
        await call.wait_for_connection()
        await result(call)
        assert await call.code() is ps.StatusCode.OK


async def test_written_requests() -> None:
    async with paired() as calls:
        call = calls.both()
        for request in (b"a", b"b"):
            await call.write(request)
            assert await call.read() == request
        await call.done_writing()
        assert await call.read() is ps.EOF


async def test_calls_that_wait_make_one_connection() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        calls = [Stub(channel).unary(b"%d" % number) for number in range(3)]
        peer = await peers.accept()
        peer.settings()
        echoes = asyncio.ensure_future(peer.echo())
        assert await asyncio.gather(*calls) == [b"0", b"1", b"2"]
        assert peers.count == 1
        await channel.close()
        await echoes


async def test_a_name_is_looked_up_again_after_a_failure() -> None:
    port = free_port()
    async with ps.insecure_channel(f"localhost:{port}", connectivity=FAST) as channel:
        call = Stub(channel).unary(b"x", wait_for_ready=True)
        while channel.get_state() is not ps.ChannelConnectivity.TRANSIENT_FAILURE:
            await channel.wait_for_state_change(channel.get_state())
        async with serving(f"127.0.0.1:{port}"):
            assert await call == b"x"


async def test_credentials_of_calls() -> None:
    async def plugin(context: ps.AuthMetadataContext) -> Any:
        return [("token", "t")]

    async def tokens(request: bytes, context: Any) -> bytes:
        return dict(context.invocation_metadata())["token"].encode()

    async with (
        serving(Unary=tokens) as server,
        ps.insecure_channel(server.target, allow_insecure_call_credentials=True) as channel,
    ):
        credentials = ps.metadata_call_credentials(plugin)
        assert await Stub(channel).unary(b"", credentials=credentials) == b"t"


async def test_a_server_stops_with_calls_in_flight() -> None:
    begun = asyncio.Event()

    async def forever(request: bytes, context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with paired(Unary=forever) as calls:
        call = calls.unary(b"")
        await begun.wait()
        await calls.server.stop(0)
        with pytest.raises(ps.AioRpcError):
            await call
