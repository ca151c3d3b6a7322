"""A client that takes a method for one of another kind: an answer at once, and no handler runs."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import Any

import pytest
from connectivity.service import serving
from service.pair import failure

import protosocket_rpc as ps

UNARY = ("Unary", "unary_unary")
REPLIES = ("Replies", "unary_stream")
REQUESTS = ("Requests", "stream_unary")
BOTH = ("Both", "stream_stream")
KINDS = (UNARY, REPLIES, REQUESTS, BOTH)


@pytest.mark.parametrize(
    ("served", "called"),
    [pytest.param(*pair, id=f"{pair[0][1]}-{pair[1][1]}") for pair in permutations(KINDS, 2)],
)
async def test_another_kind_is_refused(served: tuple[str, str], called: tuple[str, str]) -> None:
    calls: list[Any] = []

    def note(request: Any, context: Any) -> Any:
        calls.append(request)

    async with (
        serving(**{served[0]: note}) as server,
        ps.insecure_channel(server.target) as channel,
    ):
        call = getattr(channel, called[1])(f"/test.Service/{served[0]}")
        for requests in ([], [b"1"], [b"1", b"2"]):
            streams = called in (REQUESTS, BOTH)
            error = await failure(call(iter(requests) if streams else b"1"))
            assert error.code() is ps.StatusCode.UNIMPLEMENTED
            kind = served[1].replace("_", "-")
            assert error.details() == f"the method is {kind}, and was called as another kind"
        assert calls == []


async def test_the_requests_may_be_written() -> None:
    async with serving() as server, ps.insecure_channel(server.target) as channel:
        call = channel.stream_stream("/test.Service/Unary")()
        await call.write(b"1")
        with pytest.raises(ps.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is ps.StatusCode.UNIMPLEMENTED
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"2")


@pytest.mark.parametrize("path", ["", "/", "no", "/no", "/test.Service", "/test.Service/"])
async def test_a_path_of_nothing(path: str) -> None:
    async with serving() as server, ps.insecure_channel(server.target) as channel:
        error = await failure(channel.unary_unary(path)(b"x"))
        assert error.code() is ps.StatusCode.UNIMPLEMENTED
        assert error.details() == "Method not found!"
