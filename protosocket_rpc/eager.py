"""Run a coroutine's first step at once, as a real task.

Most handlers finish without ever waiting: a task that the loop starts a turn later costs them
more than they do. What runs in the first step still finds a task: ``asyncio.current_task()``,
``asyncio.timeout``, ``TaskGroup`` and cancelling oneself work as they do later.

Python 3.12 has this (``eager_start``). On 3.10 and 3.11 a spare task stands in as the current
task during the first step, and takes the coroutine over if it waits for something.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks as asyncio_tasks
import sys
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any


class EagerRunner:
    """Starts coroutines on one event loop. One per loop and owner; `close` it at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def start(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Run `coro`, in a copy of the current context, until it first waits.

        The coroutine must deal with its own exceptions: nobody awaits it.

        Returns:
            The task that runs the rest of it; None if it has ended.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is kept for later starts."""


class _TaskRunner(EagerRunner):
    """Python 3.12 and newer."""

    def start(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        make_task: Any = asyncio.Task  # eager_start is not in the typeshed of 3.10
        task: asyncio.Task[None] = make_task(coro, loop=self._loop, eager_start=True)
        return None if task.done() else task


class _SpareTaskRunner(EagerRunner):
    """Python 3.10 and 3.11."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._spare: _Adopter | None = None

    def start(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        loop = self._loop
        if asyncio_tasks.current_task(loop) is not None:  # called from a task, not the loop
            return loop.create_task(coro)
        spare = self._spare
        if spare is None:
            spare = _Adopter(loop)
        else:
            self._spare = None
        task = spare.task
        context = copy_context()
        asyncio_tasks._enter_task(loop, task)
        try:
            waits_for = context.run(coro.send, None)
        except StopIteration:
            if spare.is_reusable():
                self._spare = spare
            else:
                spare.retire()
            return None
        except BaseException:
            spare.retire()
            raise
        finally:
            asyncio_tasks._leave_task(loop, task)
        spare.adopt(coro, context, waits_for)
        return task

    def close(self) -> None:
        if self._spare is not None:
            self._spare.retire()
            self._spare = None


class _Adopter(Coroutine[Any, Any, None]):
    """The coroutine of a spare task: waits for a coroutine that has begun, and goes on with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._coro: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._waits_for: Any = None
        self._handed_over = False
        self._retired = False
        self._parking: asyncio.Future[None] = loop.create_future()
        self._task: asyncio.Task[None] | None = asyncio.Task(self, loop=loop)
        # A spare task is nobody's business until it adopts a coroutine.
        asyncio_tasks._unregister_task(self.task)
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own name

    @property
    def task(self) -> asyncio.Task[None]:
        assert self._task is not None
        return self._task

    def is_reusable(self) -> bool:
        """False if the coroutine that has just run cancelled the task, or still holds it."""
        if self._parking.done() or self.task._must_cancel:  # type: ignore[attr-defined]  # asyncio's own name
            return False
        # Held by this object, `start`, the call below, and the loop (to step or to wake it).
        return sys.getrefcount(self._task) <= 5

    def adopt(self, coro: Coroutine[Any, Any, None], context: Context, waits_for: Any) -> None:
        """Take over `coro`, which has run its first step and waits for `waits_for`."""
        self._coro = coro
        self._context = context
        self._waits_for = waits_for
        task = self.task
        self._task = None  # not a cycle for longer than needed
        asyncio_tasks._register_task(task)
        task._log_destroy_pending = True  # type: ignore[attr-defined]  # asyncio's own name
        self._wake()
        self._adopted_by = task

    def retire(self) -> None:
        """End the spare task without ever having adopted anything."""
        self._retired = True
        self._task = None
        self._wake()

    def _wake(self) -> None:
        if not self._parking.done():
            self._parking.set_result(None)

    # What the task calls.

    def send(self, value: Any) -> Any:
        coro = self._coro
        if coro is None:
            if self._retired:
                raise StopIteration
            self._parking._asyncio_future_blocking = True
            return self._parking
        if not self._handed_over:
            self._handed_over = True
            return self._waits_for
        assert self._context is not None
        return self._context.run(coro.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        coro = self._coro
        if coro is None:
            raise typ if val is None else val
        if not self._handed_over:
            # Cancelled before the task knew what it waits for: wait, with the cancellation due,
            # so that it reaches what is waited for as it would in any other task.
            self._handed_over = True
            if self._waits_for is not None:
                task = self._adopted_by
                task.cancel()
                if sys.version_info >= (3, 11):
                    task.uncancel()
                return self._waits_for
        assert self._context is not None
        return self._context.run(coro.throw, typ, val, tb)

    def close(self) -> None:
        if self._coro is not None:
            self._coro.close()

    def __await__(self) -> Any:
        raise TypeError("the coroutine of a spare task is awaited by its task alone")


def eager_runner(loop: asyncio.AbstractEventLoop) -> EagerRunner:
    """The runner for this version of Python."""
    return _TaskRunner(loop) if sys.version_info >= (3, 12) else _SpareTaskRunner(loop)
