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

_enter_task = asyncio_tasks._enter_task
_leave_task = asyncio_tasks._leave_task
_references = sys.getrefcount


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
        spare = self._spare
        if spare is None:
            spare = _Adopter(loop)
        else:
            self._spare = None
        task: asyncio.Task[None] = spare.task
        try:
            _enter_task(loop, task)
        except RuntimeError:  # called from a task, not from the loop
            self._spare = spare
            return loop.create_task(coro)
        context = copy_context()
        try:
            waits_for = context.run(coro.send, None)
        except StopIteration:
            _leave_task(loop, task)
            # Not if the coroutine cancelled the task, or still holds it. Others that do: the
            # spare, this frame, the call below, and the loop, which is to step or to wake it.
            if spare.parking.done() or spare.task._must_cancel or _references(task) > 4:
                spare.retire()
            else:
                self._spare = spare
            return None
        except BaseException:
            _leave_task(loop, task)
            spare.retire()
            raise
        _leave_task(loop, task)
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
        self.parking: asyncio.Future[None] = loop.create_future()
        # Until it is handed over, or retires: no cycle for longer than needed.
        task: Any = asyncio.Task(self, loop=loop)
        self.task: Any = task
        # A spare task is nobody's business until it adopts a coroutine.
        asyncio_tasks._unregister_task(task)
        task._log_destroy_pending = False

    def adopt(self, coro: Coroutine[Any, Any, None], context: Context, waits_for: Any) -> None:
        """Take over `coro`, which has run its first step and waits for `waits_for`."""
        self._coro = coro
        self._context = context
        self._waits_for = waits_for
        asyncio_tasks._register_task(self.task)
        self.task._log_destroy_pending = True
        self._wake()

    def retire(self) -> None:
        """End the spare task without ever having adopted anything."""
        self._retired = True
        self.task = None
        self._wake()

    def _wake(self) -> None:
        if not self.parking.done():
            self.parking.set_result(None)

    # What the task calls.

    def send(self, value: Any) -> Any:
        coro = self._coro
        if coro is None:
            if self._retired:
                raise StopIteration
            self.parking._asyncio_future_blocking = True
            return self.parking
        if not self._handed_over:
            self._handed_over = True
            self.task = None
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
            task = self.task
            self.task = None
            if self._waits_for is not None:
                task.cancel()
                if sys.version_info >= (3, 11):
                    task.uncancel()
                return self._waits_for
        assert self._context is not None
        return self._context.run(coro.throw, typ, val, tb)

    def close(self) -> None:
        if self._coro is not None:
            self._coro.close()

    def __getattr__(self, name: str) -> Any:
        # For who looks at the task: its stack, its place in the code.
        if name.startswith("_") and name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        return getattr(self._coro, name)

    def __await__(self) -> Any:
        raise TypeError("the coroutine of a spare task is awaited by its task alone")


def eager_runner(loop: asyncio.AbstractEventLoop) -> EagerRunner:
    """The runner for this version of Python."""
    return _TaskRunner(loop) if sys.version_info >= (3, 12) else _SpareTaskRunner(loop)
