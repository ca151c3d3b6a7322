"""A server of a test's handlers and a stub that calls them, in memory if nothing else is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.service import Stub, make_server

import protosocket_rpc as ps
from protosocket_rpc.testing import Pair, pair

TCP = "127.0.0.1:0"
KINDS = ("unary", "replies", "requests", "both")


class Calls(Stub):
    """The four methods on a channel, with the channel and the server at hand."""

    def __init__(self, made: Pair) -> None:
        super().__init__(made.channel)
        self.channel = made.channel
        self.server = made.server
        self.target = made.target

    def start(self, kind: str, **options: Any) -> Any:
        """A call of any kind, with one request (which completes a stream of them)."""
        if kind in ("unary", "replies"):
            return getattr(self, kind)(b"request", **options)
        return getattr(self, kind)(iter([b"request"]), **options)


@asynccontextmanager
async def paired(
    address: str | None = None,
    *,
    server: dict[str, Any] | None = None,
    channel: dict[str, Any] | None = None,
    **handlers: Any,
) -> AsyncIterator[Calls]:
    """Both sides, until the block ends. `server`, `channel`: arguments of their makers."""
    made_server = make_server(server, **handlers)
    async with pair(server=made_server, address=address, **(channel or {})) as made:
        yield Calls(made)


async def result(call: Any) -> Any:
    """What became of a call, of any kind: its reply, or the list of its replies."""
    if hasattr(call, "__aiter__"):
        return [reply async for reply in call]
    return await call


async def failure(call: Any) -> ps.AioRpcError:
    """The error that a call ends with."""
    with pytest.raises(ps.AioRpcError) as caught:
        await result(call)
    error = caught.value
    assert await call.code() is error.code()
    assert await call.details() == error.details()
    assert call.done()
    return error


def handlers(handler: Any) -> dict[str, Any]:
    """The same handler for each kind; the streams end where it ends."""

    async def replies(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield await handler(request, context)

    return {"Unary": handler, "Requests": handler, "Replies": replies, "Both": replies}
