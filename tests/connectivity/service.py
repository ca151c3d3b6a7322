"""A service of four methods that do what a test gives them to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import protosocket_rpc as ps

UNARY = ps.UnaryUnaryMethod("/test.Service/Unary", ps.BYTES, ps.BYTES)
REPLIES = ps.UnaryStreamMethod("/test.Service/Replies", ps.BYTES, ps.BYTES)
REQUESTS = ps.StreamUnaryMethod("/test.Service/Requests", ps.BYTES, ps.BYTES)
BOTH = ps.StreamStreamMethod("/test.Service/Both", ps.BYTES, ps.BYTES)
SERVICE = ps.ServiceDescriptor("test.Service", (UNARY, REPLIES, REQUESTS, BOTH))


async def echo(request: bytes, context: Any) -> bytes:
    return request


async def repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield request


async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


async def echo_all(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


class Servicer:
    """Handlers are attributes, so that a test can say what they do."""

    def __init__(self, **handlers: Callable[..., Any]) -> None:
        self.Unary: Callable[..., Any] = echo
        self.Replies: Callable[..., Any] = repeat
        self.Requests: Callable[..., Any] = join
        self.Both: Callable[..., Any] = echo_all
        for name, handler in handlers.items():
            setattr(self, name, handler)


def make_server(options: dict[str, Any] | None = None, **handlers: Callable[..., Any]) -> ps.Server:
    """A server of these handlers, not started."""
    server = ps.server(**(options or {}))
    server.add(Servicer(**handlers), SERVICE)
    return server


@asynccontextmanager
async def serving(
    address: str = "127.0.0.1:0", options: dict[str, Any] | None = None, **handlers: Any
) -> AsyncIterator[Serving]:
    """A server of these handlers, running until the block ends."""
    server = make_server(options, **handlers)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield Serving(server, address if not port else f"127.0.0.1:{port}")
    finally:
        await server.stop()


class Serving:
    def __init__(self, server: ps.Server, target: str) -> None:
        self.server = server
        self.target = target


class Stub:
    """The four methods on a channel."""

    def __init__(self, channel: ps.Channel) -> None:
        self.unary = channel.method(UNARY)
        self.replies = channel.method(REPLIES)
        self.requests = channel.method(REQUESTS)
        self.both = channel.method(BOTH)
