"""Whatever happens, in whatever order: each call ends exactly once, on both sides.

Calls of all kinds run while they are cancelled, expire, crash, lose their connection, and while
server and channel are closed under them. `server.stop()` and `channel.close()` return.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectivity.service import SERVICE, Servicer, Stub
from support import wait_until

import protosocket_rpc as ps

KINDS = ("unary", "replies", "requests", "both")


class Chaos:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.limits = ps.RpcLimits(stream_window=self.rng.choice([1000, 100_000]))
        self.began = 0
        self.ended: dict[int, int] = {}
        self.callbacks: dict[int, int] = {}
        self.done: list[int] = []
        self.users: list[asyncio.Task[None]] = []
        self.server = ps.server(limits=self.limits)

    # -- what handlers do ------------------------------------------------------------------

    async def work(self, context: Any) -> bytes:
        choice = self.rng.random()
        if choice < 0.1:
            raise ValueError("a crash")
        if choice < 0.15:
            raise asyncio.CancelledError
        if choice < 0.25:
            await context.abort(ps.StatusCode.ABORTED, "aborted")
        if choice < 0.35:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        elif choice < 0.6:
            await asyncio.sleep(self.rng.random() * 0.01)
        elif choice < 0.7:
            await asyncio.Event().wait()
        return bytes(self.rng.choice([0, 10, 1000, 200_000]))

    @contextlib.contextmanager
    def counted(self, context: Any) -> Any:
        number = self.began
        self.began += 1

        def called(_: Any) -> None:
            self.callbacks[number] = self.callbacks.get(number, 0) + 1

        context.add_done_callback(called)
        try:
            yield
        finally:
            self.ended[number] = self.ended.get(number, 0) + 1

    async def reply(self, request: Any, context: Any) -> bytes:
        with self.counted(context):
            if hasattr(request, "__aiter__") and self.rng.random() < 0.7:
                async for _ in request:
                    pass
            return await self.work(context)

    async def replies(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        with self.counted(context):
            if hasattr(request, "__aiter__") and self.rng.random() < 0.7:
                async for each in request:
                    yield each
            for _ in range(self.rng.choice([0, 1, 20])):
                yield await self.work(context)

    # -- what callers do -------------------------------------------------------------------

    async def requests(self) -> AsyncIterator[bytes]:
        for _ in range(self.rng.choice([0, 1, 20])):
            if self.rng.random() < 0.2:
                await asyncio.sleep(0)
            yield bytes(self.rng.choice([0, 10, 1000, 100_000]))
        if self.rng.random() < 0.1:
            raise KeyError("of the iterator")

    async def use(self, stub: Stub, number: int) -> None:
        kind = self.rng.choice(KINDS)
        timeout = self.rng.choice([None, None, 0.002, 0.02, 10])
        request: Any = self.requests() if kind in ("requests", "both") else b"request"
        try:
            call = getattr(stub, kind)(
                request, timeout=timeout, wait_for_ready=self.rng.random() < 0.2
            )
        except ps.UsageError:  # the channel is closed
            self.done.append(number)
            return
        call.add_done_callback(lambda _: self.done.append(number))
        if self.rng.random() < 0.2:
            asyncio.get_running_loop().call_later(self.rng.random() * 0.01, call.cancel)
        with contextlib.suppress(ps.AioRpcError, asyncio.CancelledError, KeyError):
            if kind in ("unary", "requests"):
                await call
            elif self.rng.random() < 0.2:
                return  # dropped
            else:
                async for _ in call:
                    if self.rng.random() < 0.1:
                        break

    # -- what becomes of them --------------------------------------------------------------

    async def disturb(self) -> None:
        await asyncio.sleep(self.rng.random() * 0.01)
        choice = self.rng.random()
        sessions = list(self.server._running.sessions)  # type: ignore[union-attr]  # it runs
        if choice < 0.3 and sessions:
            self.rng.choice(sessions).sender().abort(ConnectionError("cable cut"))
        elif choice < 0.4 and sessions:
            self.rng.choice(sessions).go_away("a test")
        elif choice < 0.6 and self.users:
            self.rng.choice(self.users).cancel()

    async def run(self) -> None:
        servicer = Servicer(
            Unary=self.reply, Requests=self.reply, Replies=self.replies, Both=self.replies
        )
        self.server.add(servicer, SERVICE)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        channel = ps.insecure_channel(f"127.0.0.1:{port}", limits=self.limits)
        stub = Stub(channel)
        count = 60
        for number in range(count):
            self.users.append(asyncio.ensure_future(self.use(stub, number)))
            if self.rng.random() < 0.3:
                await self.disturb()
        grace = self.rng.choice([None, 0.01, 0.05])
        first, second = channel.close(grace), self.server.stop(grace)
        ending = [first, second] if self.rng.random() < 0.5 else [second, first]
        if self.rng.random() < 0.3:
            ending.append(self.server.stop(None))
        if self.rng.random() < 0.3:
            ending.append(channel.close())
        await asyncio.gather(*ending)
        await asyncio.gather(*self.users, return_exceptions=True)
        started = [
            number
            for number, user in enumerate(self.users)
            if not user.cancelled() or number in self.done
        ]
        await wait_until(lambda: set(started) <= set(self.done))
        await wait_until(lambda: len(self.callbacks) == self.began)
        running = self.server._running
        assert running is not None
        assert not running.tasks
        assert not running.sessions


@pytest.mark.parametrize("seed", range(12))
async def test_every_call_ends_exactly_once(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "protosocket_rpc")
    chaos = Chaos(seed)
    await chaos.run()
    assert len(chaos.done) == len(set(chaos.done))
    assert set(chaos.ended.values()) <= {1}
    assert set(chaos.callbacks.values()) <= {1}
    assert len(chaos.ended) == len(chaos.callbacks) == chaos.began
