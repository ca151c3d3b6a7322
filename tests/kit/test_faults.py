"""What goes wrong on a link, and what becomes of the calls on it: in memory and over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from connectivity.service import Stub, serving
from service.sansio import END, F
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.testing import Link
from protosocket_rpc.testing.shuffle import Shuffle


class Linked(Stub):
    def __init__(self, channel: ps.Channel, link: Link) -> None:
        super().__init__(channel)
        self.channel = channel
        self.link = link


@pytest.fixture(params=["memory", "tcp", "mixed"])
def addresses(request: pytest.FixtureRequest) -> tuple[str, str | None]:
    """Of a server, and of the link to it."""
    memory = "memory:faults"
    tcp = "127.0.0.1:0"
    return {"memory": (memory, None), "tcp": (tcp, tcp), "mixed": (tcp, None)}[request.param]


@asynccontextmanager
async def linked(
    addresses: tuple[str, str | None] = ("memory:faults", None),
    channel: dict[str, Any] | None = None,
    **handlers: Any,
) -> AsyncIterator[Linked]:
    address, front = addresses
    async with (
        serving(address, **handlers) as server,
        Link(server.target, front) as link,
        ps.insecure_channel(link.target, **(channel or {})) as made,
    ):
        yield Linked(made, link)


async def code_of(call: Any) -> ps.StatusCode:
    with pytest.raises(ps.AioRpcError) as raised:
        await call
    return raised.value.code()


async def test_a_link_without_faults_changes_nothing(addresses: tuple[str, str | None]) -> None:
    async with linked(addresses) as stub:
        body = bytes(range(256)) * 8192
        assert await stub.unary(body) == body
        assert [each async for each in stub.both(iter([b"5", b"6"]))] == [b"5", b"6"]
        assert stub.link.connections == 1
        assert stub.link.to_server.bytes > len(body)
        assert stub.link.to_client.bytes > len(body)
        await stub.channel.close()
        await wait_until(lambda: stub.link.connections == 0)


async def test_delay() -> None:
    async with linked() as stub:
        await stub.unary(b"")
        stub.link.to_server.delay(0.03)
        stub.link.to_client.delay(0.02)
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await stub.unary(b"late") == b"late"
        assert loop.time() - started >= 0.05 - 0.002  # the loop's clock is coarse
        stub.link.heal()
        assert await stub.unary(b"x") == b"x"


async def test_order_is_kept_while_delayed() -> None:
    async with linked() as stub:
        stub.link.to_client.delay(0.02)
        calls = [stub.unary(b"%d" % index) for index in range(20)]
        stub.link.to_client.delay(0.0)
        assert await asyncio.gather(*calls) == [b"%d" % index for index in range(20)]


async def test_drop(addresses: tuple[str, str | None]) -> None:
    """Nobody is told, so that a deadline or a keepalive has to find out."""
    async with linked(addresses) as stub:
        await stub.unary(b"")
        stub.link.to_client.drop()
        assert await code_of(stub.unary(b"", timeout=0.05)) is ps.StatusCode.DEADLINE_EXCEEDED
        call = stub.unary(b"held")
        assert stub.link.connections == 1
        stub.link.heal()
        assert await call == b"held"


async def test_what_is_dropped_for_long_stops_the_sender() -> None:
    async def pour(request: bytes, context: Any) -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    options = {"limits": ps.RpcLimits(stream_window=1 << 30)}
    async with linked(channel=options, Replies=pour) as stub:
        await stub.unary(b"")
        stub.link.to_client.drop()
        call = stub.replies(b"")
        before = -1
        while before != stub.link.to_client.bytes:
            before = stub.link.to_client.bytes
            for _ in range(50):
                await asyncio.sleep(0)
        assert stub.link.to_client.bytes < 1 << 20
        call.cancel()


async def test_keepalive_finds_a_network_that_is_down() -> None:
    keepalive = ps.ClientConnectivity(keepalive_interval=0.05, keepalive_timeout=0.05)
    async with linked(channel={"connectivity": keepalive}) as stub:
        await stub.unary(b"")
        stub.link.to_client.drop()
        assert await code_of(stub.unary(b"")) is ps.StatusCode.UNAVAILABLE


async def test_cut_in_the_middle_of_a_frame(addresses: tuple[str, str | None]) -> None:
    async with linked(addresses) as stub:
        await stub.unary(b"")
        stub.link.to_client.cut(after=1)
        call = stub.unary(b"")
        with pytest.raises(ps.AioRpcError) as raised:
            await call
        assert raised.value.code() is ps.StatusCode.UNAVAILABLE
        assert "middle of a message" in str(raised.value.__cause__)
        assert await stub.unary(b"again") == b"again"  # on a new connection


async def test_cut_on_the_way_to_the_server(addresses: tuple[str, str | None]) -> None:
    served: list[bytes] = []

    async def serve(request: bytes, context: Any) -> bytes:
        served.append(request)
        return request

    async with linked(addresses, Unary=serve) as stub:
        await stub.unary(b"first")
        stub.link.to_server.cut(after=5)
        assert await code_of(stub.unary(b"never")) is ps.StatusCode.UNAVAILABLE
        await stub.unary(b"last", wait_for_ready=True)
        assert served == [b"first", b"last"]


async def test_half_close(addresses: tuple[str, str | None]) -> None:
    """The client believes the server to be gone, and connects again."""
    async with linked(addresses) as stub:
        await stub.unary(b"")
        stub.link.to_client.half_close()
        await wait_until(lambda: stub.channel.get_state() is not ps.ChannelConnectivity.READY)
        assert await stub.unary(b"x", wait_for_ready=True) == b"x"


async def test_reset(addresses: tuple[str, str | None]) -> None:
    started = asyncio.Event()

    async def hang(request: bytes, context: Any) -> bytes:
        started.set()
        await asyncio.Event().wait()
        return b""

    async with linked(addresses, Unary=hang) as stub:
        call = stub.unary(b"")
        await started.wait()
        stub.link.reset()
        assert await code_of(call) is ps.StatusCode.UNAVAILABLE


async def test_refuse() -> None:
    async with linked() as stub:
        stub.link.refuse()
        assert await code_of(stub.unary(b"")) is ps.StatusCode.UNAVAILABLE
        stub.link.heal()
        assert await stub.unary(b"x", wait_for_ready=True) == b"x"


async def test_a_server_that_is_not_there() -> None:
    async with (
        Link("memory:nobody") as link,
        ps.insecure_channel(link.target) as channel,
    ):
        assert await code_of(Stub(channel).unary(b"")) is ps.StatusCode.UNAVAILABLE
        await wait_until(lambda: link.connections == 0)


@pytest.mark.parametrize("seed", range(5))
async def test_reorder(seed: int, addresses: tuple[str, str | None]) -> None:
    """Replies and items of many RPCs arrive in another order; to each its own, in its own."""

    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for index in range(5):
            yield b"%s-%d" % (request, index)

    async with linked(addresses, Replies=count) as stub:
        await stub.unary(b"")
        stub.link.to_client.reorder(seed)
        stub.link.to_server.reorder(seed)
        ended: list[int] = []

        async def read(name: int) -> None:
            replies = [each async for each in stub.replies(b"%d" % name)]
            assert replies == [b"%d-%d" % (name, index) for index in range(5)]
            ended.append(name)

        await asyncio.gather(*[read(name) for name in range(20)])
        assert ended != sorted(ended)
        stub.link.heal()
        assert await stub.unary(b"x") == b"x"


class TestShuffle:
    FRAMES = (
        F(0, END, settings=True),
        F(1, method="/a/b", body=b"1"),
        F(2, method="/a/b"),
        F(1, END),
        F(2, body=b"2"),
        F(2, body=b"3"),
        F(0, END, ping=1),
        F(3, method="/a/b", body=b"4"),
        F(2, END),
        F(3, END),
    )

    @pytest.mark.parametrize("seed", range(20))
    def test_what_keeps_its_order(self, seed: int) -> None:
        shuffle = Shuffle(Random(seed))
        frames = [frame.encode() for frame in self.FRAMES]
        data = b"".join(frames)
        shuffle.add(data[:-1])
        shuffle.add(data[-1:] + b"\x05par")
        taken = shuffle.take()
        assert shuffle.rest() == b"\x05par"
        order: list[F] = []
        while taken:
            index = next(i for i, each in enumerate(frames) if taken.startswith(each))
            order.append(self.FRAMES[index])
            taken = taken[len(frames[index]) :]
        assert sorted(map(str, order)) == sorted(map(str, self.FRAMES))
        for lane in (
            *(lambda f, id=id: f.id == id for id in (1, 2, 3)),
            lambda f: f.id == 0 or f.method,
        ):
            assert list(filter(lane, order)) == list(filter(lane, self.FRAMES))

    def test_the_order_is_the_seed_s(self) -> None:
        def shuffled(seed: int) -> bytes:
            shuffle = Shuffle(Random(seed))
            shuffle.add(b"".join(frame.encode() for frame in self.FRAMES))
            return shuffle.take()

        assert shuffled(1) == shuffled(1)
        assert len({shuffled(seed) for seed in range(10)}) > 5
