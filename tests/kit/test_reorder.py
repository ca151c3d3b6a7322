"""Frames of different RPCs that arrive in another order: to each its own, in its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from kit.linked import linked
from service.pair import KINDS
from service.sansio import END, F

from protosocket_rpc.testing import VirtualClock
from protosocket_rpc.testing.shuffle import Shuffle

MANY = 20


async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for index in range(5):
        yield b"%s-%d" % (request, index)


async def call_many(calls: Any, kind: str) -> list[int]:
    """Calls at the same time, each with its own answer; in which order they ended."""
    ended: list[int] = []

    async def call(number: int) -> None:
        name = b"%d" % number
        parts = [b"%d-%d" % (number, index) for index in range(5)]
        if kind == "unary":
            assert await calls.unary(name) == name
        elif kind == "replies":
            assert [each async for each in calls.replies(name)] == parts
        elif kind == "requests":
            assert await calls.requests(iter(parts)) == b"".join(parts)
        else:
            assert [each async for each in calls.both(iter(parts))] == parts
        ended.append(number)

    await asyncio.gather(*[call(number) for number in range(MANY)])
    return ended


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
async def test_calls(virtual_clock: VirtualClock, kind: str, seed: int) -> None:
    async with linked(Replies=count) as calls:
        await calls.unary(b"")
        calls.link.to_client.reorder(seed)
        calls.link.to_server.reorder(seed)
        ended = await call_many(calls, kind)
        assert ended != sorted(ended)
        calls.link.heal()
        assert await calls.unary(b"x") == b"x"


async def test_over_sockets(addresses: tuple[str, str | None]) -> None:
    async with linked(addresses, Replies=count) as calls:
        await calls.unary(b"")
        calls.link.to_client.reorder(1)
        calls.link.to_server.reorder(1)
        ended = await call_many(calls, "replies")
        assert ended != sorted(ended)


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
