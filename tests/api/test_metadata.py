"""Metadata: key rules, binary values, and its size limit on both sides."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.service import Stub, serving

import protosocket_rpc as ps
from protosocket_rpc.metadata import metadata_from_wire, metadata_to_wire
from protosocket_rpc.service.limits import RpcLimits

SMALL = RpcLimits(max_metadata_size=100)


@asynccontextmanager
async def stub(
    server_limits: RpcLimits | None = None,
    channel_limits: RpcLimits | None = None,
    **handlers: Any,
) -> AsyncIterator[Stub]:
    async with (
        serving(options={"limits": server_limits}, **handlers) as server,
        ps.insecure_channel(server.target, limits=channel_limits) as channel,
    ):
        yield Stub(channel)


# -- rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a", "a-b", "a_b", "a.b", "0", "x-bin-x", "grpc-timeout"])
def test_keys_that_are_allowed(key: str) -> None:
    assert metadata_to_wire([(key, "v")]) == [(key, b"v")]


@pytest.mark.parametrize("key", ["", "A", "a b", "a:b", ":path", "ä", "a\n", "a/b"])
def test_keys_that_are_not(key: str) -> None:
    with pytest.raises(ValueError, match="lower case letters"):
        metadata_to_wire([(key, "v")])


@pytest.mark.parametrize("value", ["", " ", "text", "~!@#$%^&*()", b"bytes"])
def test_values_that_are_allowed(value: Any) -> None:
    encoded = value if isinstance(value, bytes) else value.encode()
    assert metadata_to_wire([("k", value)]) == [("k", encoded)]


@pytest.mark.parametrize("value", ["\n", "ä", "\x00", "\x7f", b"\x80"])
def test_values_that_need_a_binary_key(value: Any) -> None:
    with pytest.raises(ValueError, match="ends in '-bin'"):
        metadata_to_wire([("k", value)])


def test_binary_values_are_bytes() -> None:
    assert metadata_to_wire([("k-bin", bytes(range(256)))]) == [("k-bin", bytes(range(256)))]
    with pytest.raises(TypeError, match="must be bytes"):
        metadata_to_wire([("k-bin", "text")])


@pytest.mark.parametrize(
    "metadata",
    [{"a": "b"}, "text", b"bytes", [("a",)], [("a", "b", "c")], [1], [("a", 1)], [(1, "a")], 5],
)
def test_what_is_no_metadata_is_a_type_error(metadata: Any) -> None:
    with pytest.raises(TypeError):
        metadata_to_wire(metadata)


async def test_bad_metadata_is_told_where_it_is_given() -> None:
    async def unary(request: bytes, context: Any) -> bytes:
        with pytest.raises(ValueError, match="Upper"):
            context.set_trailing_metadata([("Upper", "x")])
        with pytest.raises(ValueError, match="Upper"):
            await context.send_initial_metadata([("Upper", "x")])
        return request

    async with stub(Unary=unary) as each:
        with pytest.raises(ValueError, match="Upper"):
            each.unary(b"", metadata=[("Upper", "x")])
        assert await each.unary(b"x") == b"x"


async def test_values_arrive_as_they_were_sent() -> None:
    pairs = [("a", "1"), ("a", "2"), ("b-bin", bytes(range(256))), ("c", "")]

    async def unary(request: bytes, context: Any) -> bytes:
        received = context.invocation_metadata()
        await context.send_initial_metadata(received)
        context.set_trailing_metadata(received)
        return repr(list(received)).encode()

    async with stub(Unary=unary) as each:
        call = each.unary(b"", metadata=pairs)
        assert eval(await call) == pairs
        assert list(await call.initial_metadata()) == pairs
        assert list(await call.trailing_metadata()) == pairs


PAIRS = [("a", b"1"), ("b-bin", b"\xff"), ("a", b"2"), ("c", b"\xff")]
SEEN = ps.Metadata(("a", "1"), ("a", "2"), ("b-bin", b"\xff"), ("c", "\ufffd"))


@pytest.mark.parametrize(
    "look",
    [
        lambda metadata: metadata,
        copy.copy,
        copy.deepcopy,
        lambda metadata: pickle.loads(pickle.dumps(metadata)),
        lambda metadata: ps.Metadata.from_tuple(metadata),
        lambda metadata: type(metadata).from_tuple(tuple(metadata)),
        lambda metadata: metadata + ps.Metadata(),
    ],
)
def test_what_has_arrived_is_metadata_as_any_other(look: Callable[[Any], Any]) -> None:
    received = look(metadata_from_wire(PAIRS))
    assert isinstance(received, ps.Metadata)
    assert received == SEEN
    assert received == SEEN
    assert repr(received) == repr(SEEN)
    assert len(received) == 4
    assert "a" in received
    with pytest.raises(AttributeError, match="'values_'"):
        received.values_  # noqa: B018  # for the error alone


def test_who_changes_what_has_arrived_changes_nothing_else() -> None:
    first = metadata_from_wire(PAIRS)
    first.add("d", "3")
    del first["b-bin"]
    assert list(first) == [("a", "1"), ("a", "2"), ("c", "\ufffd"), ("d", "3")]
    assert metadata_from_wire(PAIRS) == SEEN
    assert metadata_from_wire(None) == metadata_from_wire([]) == ps.Metadata()


def test_two_threads_that_look_at_the_same_time_see_all_of_it() -> None:
    seen: list[int] = []

    class Pairs(list[tuple[str, bytes]]):
        def __iter__(self) -> Iterator[tuple[str, bytes]]:
            pairs = super().__iter__()
            yield next(pairs)
            if not seen:  # the first is in the middle when the other looks
                seen.append(0)
                other = threading.Thread(target=lambda: seen.append(len(received)))
                other.start()
                other.join()
            yield from pairs

    received = metadata_from_wire(Pairs(PAIRS))
    assert list(received) == list(SEEN)
    assert seen == [0, len(SEEN)]


def test_metadata_is_not_hashable() -> None:
    with pytest.raises(TypeError):
        hash(ps.Metadata())


# -- size ----------------------------------------------------------------------------------


def refused(error: ps.AioRpcError, side: str) -> bool:
    assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
    details = str(error.details())
    return (
        "metadata larger than max (101 vs. 100)" in details
        and f"the {side}'s limit" in details
        and "max_metadata_size" in details
    )


@pytest.mark.parametrize("known", [False, True])
async def test_request_metadata_above_the_servers_limit(known: bool) -> None:
    async with stub(server_limits=SMALL) as each:
        if known:  # then nothing is sent at all
            await each.unary(b"")
        with pytest.raises(ps.AioRpcError) as raised:
            await each.unary(b"", metadata=[("k", "x" * 100)])
        assert refused(raised.value, "server")
        if known:
            assert str(raised.value.details()).startswith("Sent")
        assert await each.unary(b"", metadata=[("k", "x" * 99)]) == b""


@pytest.mark.parametrize("when", ["initial", "trailing"])
@pytest.mark.parametrize("kind", ["unary", "replies"])
async def test_reply_metadata_above_the_clients_limit(when: str, kind: str) -> None:
    async def tell(context: Any, size: int) -> None:
        metadata = [("k", "x" * size)]
        if when == "initial":
            await context.send_initial_metadata(metadata)
        else:
            context.set_trailing_metadata(metadata)

    async def unary(request: bytes, context: Any) -> bytes:
        await tell(context, int(request))
        return request

    async def replies(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await tell(context, int(request))
        yield request

    async def receive(each: Stub, request: bytes) -> Any:
        if kind == "unary":
            return await each.unary(request)
        return [reply async for reply in each.replies(request)]

    async with stub(channel_limits=SMALL, Unary=unary, Replies=replies) as each:
        with pytest.raises(ps.AioRpcError) as raised:
            await receive(each, b"100")
        assert refused(raised.value, "client")
        assert await receive(each, b"99") in (b"99", [b"99"])


async def test_grpcs_option_for_the_size() -> None:
    options = {"options": [("grpc.max_metadata_size", 100)]}
    async with serving(options=options) as server, ps.insecure_channel(server.target) as channel:
        with pytest.raises(ps.AioRpcError) as raised:
            await Stub(channel).unary(b"", metadata=[("k", "x" * 100)])
    assert refused(raised.value, "server")
