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
from contextvars import copy_context
from typing import Any, Final

from protosocket_rpc.adopter import ENDED, Adopter, run_each

_copy_context: Final = copy_context
_references: Final = sys.getrefcount
_ENDED: Final[Any] = ENDED
# Of no type: mypyc would take an attribute that is set to None to stay so, whatever runs meanwhile.
_NONE: Final[Any] = None


def _count_own() -> int:
    """The references that a function sees of what it alone holds: compiled, one less."""
    thing = object()
    return _references(thing)


_OWN: Final = _count_own()


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

    def start_within(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """As `start`, where a task may be running: it goes on when `coro` first waits."""
        return self.start(coro)

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
        self._spare: _Spare | None = None
        # Each loop's current task. asyncio's functions to enter and to leave one cost more.
        tasks: Any = asyncio_tasks
        self._current: dict[Any, asyncio.Task[None]] = tasks._current_tasks

    def start(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        loop = self._loop
        spare = self._spare
        if spare is None:
            spare = _Spare(loop)
        task: asyncio.Task[None] = spare.task
        if self._current.setdefault(loop, task) is not task:  # called from a task
            self._spare = spare
            return loop.create_task(coro)
        self._spare = _NONE  # while it is in use: what it runs may start another
        context = _copy_context()
        try:
            waits_for = context.run(spare.step, coro)
        except BaseException:
            del self._current[loop]
            spare.adopter.retire()
            raise
        del self._current[loop]
        if waits_for is not _ENDED:
            spare.adopter.adopt(task, coro, context, waits_for)
            return task
        # Not if the coroutine cancelled the task, named it, is to be told of its end, or still
        # holds it; or if what it started has left another. Others that hold it: the spare, and
        # the loop, which is to step or to wake it.
        if (
            self._spare is not None
            or spare.parking.done()
            or spare.task._must_cancel
            or spare.task._callbacks
            or spare.task.get_name() is not spare.name
            or _references(task) > _OWN + 2
        ):
            spare.adopter.retire()
        else:
            self._spare = spare
        return None

    def start_within(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        loop = self._loop
        running = self._current.pop(loop, None)
        if running is None:
            return self.start(coro)
        try:
            return self.start(coro)
        finally:
            self._current[loop] = running

    def close(self) -> None:
        if self._spare is not None:
            self._spare.adopter.retire()
            self._spare = None


class _Spare:
    """A task for a coroutine that waits, and what runs the first step of any.

    Attributes:
        step: runs a coroutine until it first waits. Returns what it waits for, or `ENDED`.
    """

    __slots__ = ("adopter", "name", "parking", "step", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        runs: Any = run_each()
        self.step = runs.send
        self.step(None)
        self.parking: asyncio.Future[None] = loop.create_future()
        self.adopter = Adopter(runs, self.parking)
        task: Any = asyncio.Task(self.adopter, loop=loop)
        # A spare task is nobody's business until it adopts a coroutine.
        asyncio_tasks._unregister_task(task)
        task._log_destroy_pending = False
        self.task: Any = task
        self.name: str = task.get_name()


def start_later(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, None]
) -> asyncio.Task[None]:
    """The opposite: a task whose first step waits for its turn, whatever the loop's task factory.

    Its starter has noted it by then.
    """
    return asyncio.Task(coro, loop=loop)


def eager_runner(loop: asyncio.AbstractEventLoop) -> EagerRunner:
    """The runner for this version of Python."""
    return _TaskRunner(loop) if sys.version_info >= (3, 12) else _SpareTaskRunner(loop)
