"""The pair in memory: the same connection, codec and sessions as over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectivity.service import Stub, make_server

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock, linked_pair, pair


async def test_all_kinds_of_calls() -> None:
    async with pair(server=make_server()) as made:
        stub = Stub(made.channel)
        assert await stub.unary(b"1") == b"1"
        assert [each async for each in stub.replies(b"2")] == [b"2"] * 3
        assert await stub.requests(iter([b"3", b"4"])) == b"34"
        assert [each async for each in stub.both(iter([b"5", b"6"]))] == [b"5", b"6"]


async def test_messages_larger_than_all_buffers() -> None:
    async with pair(server=make_server()) as made:
        body = bytes(range(256)) * 8192
        assert await Stub(made.channel).unary(body) == body


async def test_a_stream_that_is_not_read_stops_its_handler(virtual_clock: VirtualClock) -> None:
    sent = 0

    async def pour(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            yield bytes(10_000)
            sent += 1

    async with pair(server=make_server(Replies=pour)) as made:
        call = Stub(made.channel).replies(b"")
        await virtual_clock.advance(1)
        assert sent * 10_000 <= ps.RpcLimits().stream_window + 10_000
        assert len([each async for each in call]) == 1000


async def test_what_is_no_servicer_is_refused() -> None:
    with pytest.raises(TypeError):
        async with pair(object()):
            pass


async def test_the_name_of_the_peer() -> None:
    async def say(request: bytes, context: Any) -> bytes:
        peer: str = context.peer()
        return peer.encode()

    async with pair(server=make_server(Unary=say)) as made:
        assert await Stub(made.channel).unary(b"") == made.target.encode()


async def test_options_of_the_channel() -> None:
    limits = ps.RpcLimits(max_send_message_size=10)
    async with pair(server=make_server(), limits=limits) as made:
        with pytest.raises(ps.AioRpcError) as raised:
            await Stub(made.channel).unary(bytes(11))
        assert raised.value.code() is ps.StatusCode.RESOURCE_EXHAUSTED


async def test_over_sockets() -> None:
    async with pair(server=make_server(), address="127.0.0.1:0") as made:
        assert made.target.startswith("127.0.0.1:")
        assert not made.target.endswith(":0")
        assert await Stub(made.channel).unary(b"x") == b"x"
    async with linked_pair(server=make_server(), address="127.0.0.1:0") as linked:
        assert linked.link.target.startswith("memory:")
        assert await Stub(linked.channel).unary(b"x") == b"x"


async def test_pairs_do_not_meet() -> None:
    async with pair(server=make_server()) as one, pair(server=make_server()) as other:
        assert one.target != other.target
        await one.server.stop(None)
        assert await Stub(other.channel).unary(b"x") == b"x"


async def test_nothing_of_the_caller_s_context_reaches_the_handler() -> None:
    """As over a socket: above all, no deadline is inherited other than through the wire."""

    async def left(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async def outer(request: bytes, context: Any) -> bytes:
        reply: bytes = await Stub(inner.channel).unary(b"")
        return reply

    async with (
        pair(server=make_server(Unary=left)) as inner,
        pair(server=make_server(Unary=outer)) as made,
    ):
        assert await Stub(made.channel).unary(b"") == b"None"
        assert 50 < float(await Stub(made.channel).unary(b"", timeout=60)) <= 60
        assert await Stub(made.channel).unary(b"") == b"None"
