"""Coroutines started at once: a task all the same, and nothing kept of it afterwards."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
from support import wait_until

from protosocket_rpc.eager import EagerRunner, eager_runner


class Runner:
    """Starts coroutines from outside of any task, as a protocol does."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.runner: EagerRunner = eager_runner(self.loop)
        self.started: list[Any] = []

    async def start(self, coro: Coroutine[Any, Any, None]) -> Any:
        done = self.loop.create_future()
        self.loop.call_soon(lambda: done.set_result([self.runner.start(coro)]))
        (task,) = await done
        return task


async def test_what_does_not_wait_is_done_at_once() -> None:
    runner = Runner()
    steps: list[str] = []

    async def work() -> None:
        assert asyncio.current_task() is not None
        steps.append("done")

    def start() -> None:
        assert runner.runner.start(work()) is None
        steps.append("started")

    runner.loop.call_soon(start)
    await wait_until(lambda: len(steps) == 2)
    assert steps == ["done", "started"]
    runner.runner.close()


@pytest.mark.parametrize("waits_for", ["future", "nothing"])
async def test_what_waits_goes_on_in_the_same_task(waits_for: str) -> None:
    runner = Runner()
    tasks: list[Any] = []
    future = runner.loop.create_future()

    async def work() -> None:
        tasks.append(asyncio.current_task())
        await (future if waits_for == "future" else asyncio.sleep(0))
        tasks.append(asyncio.current_task())

    task = await runner.start(work())
    assert tasks[0] is task
    assert "work" in repr(task)
    if waits_for == "future":
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["work"]
    future.set_result(None)
    await task
    assert tasks == [task, task]
    runner.runner.close()


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("used_before", [False, True])
async def test_cancelled_at_any_time_the_cancellation_reaches_what_is_waited_for(
    turns: int, used_before: bool
) -> None:
    runner = Runner()
    future: asyncio.Future[None] = runner.loop.create_future()
    seen: list[str] = []

    async def nothing() -> None:
        pass

    async def work() -> None:
        try:
            await future
        except asyncio.CancelledError as error:
            seen.append(f"cancelled {error}".strip())
            task = asyncio.current_task()
            assert task is not None
            if hasattr(task, "cancelling"):
                assert task.cancelling() == 1
            raise

    if used_before:
        await runner.start(nothing())
        await asyncio.sleep(0)
    task = await runner.start(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()
    assert seen == ["cancelled"]
    runner.runner.close()


async def test_cancelled_between_a_wait_that_is_over_and_its_next_step() -> None:
    runner = Runner()
    future: asyncio.Future[None] = runner.loop.create_future()
    seen: list[Any] = []

    async def work() -> None:
        await future
        try:
            await asyncio.sleep(0)
        finally:
            seen.append("in the second wait")

    task = await runner.start(work())
    future.set_result(None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    runner.runner.close()


async def test_a_task_that_is_kept_is_not_used_again() -> None:
    runner = Runner()
    kept: list[Any] = []

    async def keep() -> None:
        kept.append(asyncio.current_task())

    for _ in range(10):
        await runner.start(keep())
    assert len(set(map(id, kept))) == 10
    runner.runner.close()
    await wait_until(lambda: all(task.done() for task in kept))


async def test_what_a_coroutine_told_its_task_is_for_no_other() -> None:
    runner = Runner()
    ended: list[str] = []
    names: list[str] = []

    async def work(name: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        task.set_name(name)
        task.add_done_callback(lambda task: ended.append(task.get_name()))

    for name in ("first", "second"):
        assert await runner.start(work(name)) is None
    await wait_until(lambda: len(ended) == 2)
    assert ended == ["first", "second"]
    assert "first" not in names
    runner.runner.close()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python has no need for a spare task")
async def test_a_spare_task_is_used_again_and_again() -> None:
    """Else starting eagerly costs more than it saves."""
    runner = Runner()
    seen: set[int] = set()

    async def look() -> None:
        seen.add(id(asyncio.current_task()))

    for _ in range(20):
        await runner.start(look())
    assert len(seen) == 1
    runner.runner.close()


async def test_started_within_a_task_which_goes_on_behind_the_first_step() -> None:
    loop = asyncio.get_running_loop()
    runner = eager_runner(loop)
    caller = asyncio.current_task()
    future: asyncio.Future[None] = loop.create_future()
    tasks: list[Any] = []

    async def inner() -> None:
        tasks.append(asyncio.current_task())

    async def outer(waits: bool) -> None:
        tasks.append(asyncio.current_task())
        assert runner.start_within(inner()) is None
        assert asyncio.current_task() is tasks[-2]
        if waits:
            await future

    assert runner.start_within(outer(False)) is None
    assert asyncio.current_task() is caller
    task = runner.start_within(outer(True))
    assert asyncio.current_task() is caller
    assert task is tasks[2]
    assert None not in tasks
    assert caller not in tasks
    assert tasks[0] is not tasks[1]
    assert tasks[2] is not tasks[3]
    future.set_result(None)
    await task
    runner.close()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python has no need for a spare task")
async def test_spare_tasks_of_what_was_started_within_are_not_left_behind() -> None:
    loop = asyncio.get_running_loop()
    runner = eager_runner(loop)
    tasks: list[weakref.ref[asyncio.Task[Any]]] = []

    async def nested(depth: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(weakref.ref(task))
        del task
        if depth:
            assert runner.start_within(nested(depth - 1)) is None

    for _ in range(3):
        assert runner.start_within(nested(3)) is None
    runner.close()
    await wait_until(lambda: not any(ref() for ref in tasks))


async def test_an_exception_that_nobody_caught() -> None:
    runner = Runner()

    class Odd(BaseException):
        pass

    async def work() -> None:
        await asyncio.sleep(0)
        raise Odd

    task = await runner.start(work())
    with pytest.raises(Odd):
        await task
    runner.runner.close()


@pytest.mark.parametrize("end", ["at once", "later", "raise", "cancel", "cancel at once"])
async def test_no_cycles(end: str) -> None:
    runner = Runner()

    class Local:
        pass

    async def work(held: list[Any]) -> None:
        local = held.pop()
        if end == "cancel at once":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        if end != "at once":
            try:
                await asyncio.sleep(0 if end != "cancel" else 10)
                if end == "raise":
                    raise ValueError
            except (ValueError, asyncio.CancelledError):
                pass
        del local

    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            held = [Local()]
            ref = weakref.ref(held[0])
            task = await runner.start(work(held))
            if end == "cancel":
                task.cancel()
            if task is not None:
                await task
            del task
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert ref() is None
        assert gc.collect() == 0
    finally:
        gc.enable()
    runner.runner.close()
