"""A call costs the same, however many methods and services its server has."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from connectivity.service import SERVICE, Servicer, Stub

import protosocket_rpc as ps

MANY = 5_000


class Every:
    """A servicer with any method."""

    def __getattr__(self, name: str) -> Any:
        async def handler(request: bytes, context: Any) -> bytes:
            raise AssertionError(f"{name} was called")

        return handler


async def functions_called(target: str, services: int, methods: int) -> int:
    """How many functions a call enters and leaves, client and server together."""
    server = ps.server()
    for number in range(services):
        name = f"other.Service{number}"
        others = [
            ps.UnaryUnaryMethod(f"/{name}/Method{each}", ps.BYTES, ps.BYTES)
            for each in range(methods)
        ]
        server.add(Every(), ps.ServiceDescriptor(name, tuple(others)))
    server.add(Servicer(), SERVICE)
    server.add_insecure_port(target)
    counts: list[int] = []

    def count(frame: FrameType, event: str, argument: object) -> None:
        counts[-1] += 1

    async with server, ps.insecure_channel(target) as channel:
        unary = Stub(channel).unary
        await unary(b"x")
        for _ in range(20):
            counts.append(0)
            sys.setprofile(count)
            try:
                await unary(b"x")
            finally:
                sys.setprofile(None)
    return min(counts)


@pytest.mark.source
async def test_dispatch_does_not_slow_down_with_the_number_of_methods() -> None:
    alone = await functions_called("memory:alone", 0, 0)
    assert alone > 10
    assert await functions_called("memory:methods", 1, MANY) == alone
    assert await functions_called("memory:services", MANY, 1) == alone
