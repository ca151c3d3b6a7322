"""What the start of a coroutine on Python 3.10 and 3.11 takes, beside `EagerRunner`.

Apart from that, because it is not compiled: Python's own generators hand over what a coroutine
of Python waits for, and `Adopter` passes for the coroutine that it has.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks as asyncio_tasks
import sys
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, Final

# What `run_each` gives between two coroutines.
ENDED: Final[Any] = object()


@coroutine
def run_each() -> Generator[Any, Any, None]:
    """Run each coroutine that is sent, give what it waits for, and ENDED when it has ended.

    All of them in one generator: out of a coroutine's own ``send()``, its end is an exception,
    which costs more than the rest of starting it.
    """
    while True:
        yield from (yield ENDED)


class Adopter(Coroutine[Any, Any, None]):
    """The coroutine of a spare task: waits for a coroutine that has begun, and goes on with it.

    Args:
        runs: the generator that is to run the coroutine.
        parking: what the task waits for until then.
    """

    def __init__(self, runs: Generator[Any, Any, None], parking: asyncio.Future[None]) -> None:
        self._runs = runs
        self._parking = parking
        self._coro: Coroutine[Any, Any, None] | None = None
        self._context: Context | None = None
        self._waits_for: Any = None
        # The task itself, until the coroutine is handed over: no cycle for longer than needed.
        self._task: Any = None
        self._handed_over = False
        self._retired = False

    def adopt(
        self, task: Any, coro: Coroutine[Any, Any, None], context: Context, waits_for: Any
    ) -> None:
        """Take over `coro`, which has run its first step and waits for `waits_for`."""
        self._task = task
        self._coro = coro
        self._context = context
        self._waits_for = waits_for
        asyncio_tasks._register_task(task)
        task._log_destroy_pending = True
        self._wake()

    def retire(self) -> None:
        """End the spare task without ever having adopted anything."""
        self._retired = True
        self._wake()

    def _wake(self) -> None:
        if not self._parking.done():
            self._parking.set_result(None)

    def _go_on(self, how: Callable[..., Any], *args: Any) -> Any:
        assert self._context is not None
        waits_for = self._context.run(how, *args)
        if waits_for is ENDED:
            raise StopIteration
        return waits_for

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
            self._task = None
            return self._waits_for
        return self._go_on(self._runs.send, value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Any:
        coro = self._coro
        if coro is None:
            raise typ if val is None else val
        if not self._handed_over:
            # Cancelled before the task knew what it waits for: wait, with the cancellation due,
            # so that it reaches what is waited for as it would in any other task.
            self._handed_over = True
            task = self._task
            self._task = None
            if self._waits_for is not None:
                task.cancel()
                if sys.version_info >= (3, 11):
                    task.uncancel()
                return self._waits_for
        return self._go_on(self._runs.throw, typ, val, tb)

    def close(self) -> None:
        self._runs.close()

    def __getattr__(self, name: str) -> Any:
        # For who looks at the task: its stack, its place in the code.
        if name.startswith("_") and name not in ("__name__", "__qualname__"):
            raise AttributeError(name)
        return getattr(self._coro, name)

    def __await__(self) -> Any:
        raise TypeError("the coroutine of a spare task is awaited by its task alone")
