"""One object for each event loop that asks for it: for what may outlive loops, and processes.

A channel, say, is made once per program, perhaps before any loop runs, and used by whatever loop
needs it, on whatever thread, before a fork and after it. Its connections belong to one loop of
one process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, Protocol, TypeVar

from protosocket_rpc.errors import UsageError
from protosocket_rpc.forks import leave_to_parent_after_fork


class Bound(Protocol):
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop

    async def close(self, grace: float | None) -> None:
        """Close it, on its own loop. Does nothing the second time."""
        ...  # a protocol has no body

    def shut_down(self) -> None:
        """Begin to close, without waiting for what comes of it."""
        ...  # a protocol has no body

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the sockets, without a trace that the parent could see."""
        ...  # a protocol has no body


BoundT = TypeVar("BoundT", bound=Bound)


class PerLoop(Generic[BoundT]):
    """The objects, by loop. Made when first asked for, closed at the latest with their loop.

    Args:
        name: what errors call the owner.
        make: makes the object for a loop, which is the running one.

    Attributes:
        latest: the one that was asked for last, by any loop; None if there is none.
        closed: no more are made.
    """

    def __init__(self, name: str, make: Callable[[asyncio.AbstractEventLoop], BoundT]) -> None:
        self._name = name
        self._make = make
        self._objects: dict[asyncio.AbstractEventLoop, BoundT] = {}
        self._guards: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._inherited: list[Any] = []
        self._inherited_loops: set[asyncio.AbstractEventLoop] = set()
        self.latest: BoundT | None = None
        self.closed = False
        leave_to_parent_after_fork(self)

    def get(self) -> BoundT:
        """The running loop's.

        Raises:
            RuntimeError: no event loop is running.
            UsageError: it was closed, or the loop is one that cannot be used after a fork.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                f"no running event loop: use a {self._name.lower()} inside of a coroutine, "
                "which asyncio.run() runs"
            ) from None
        found = self._objects.get(loop)
        if found is None:
            if self.closed:
                raise UsageError(f"{self._name} is closed.")
            if loop in self._inherited_loops and _is_uvloops(loop):
                raise UsageError(
                    "this event loop was used before the process forked; uvloop would crash the "
                    "parent if it went on here: run a new loop, with asyncio.run() or uvloop.run()"
                )
            self._forget_closed_loops()
            found = self._objects[loop] = self._make(loop)
            self._guards[loop] = _closed_with_loop(found)
        self.latest = found
        return found

    def find(self) -> BoundT | None:
        """The running loop's, if it has one; with no loop running, the one that was used last."""
        try:
            return self._objects.get(asyncio.get_running_loop())
        except RuntimeError:
            return self.latest

    def _forget_closed_loops(self) -> None:
        for loop in list(self._objects):
            if loop.is_closed():
                self._objects.pop(loop, None)  # another thread may forget it, too
                self._guards.pop(loop, None)

    async def close(self, grace: float | None) -> None:
        """Close all, each on its own loop, wherever that runs."""
        self.closed = True
        self.latest = None
        objects, self._objects = self._objects, {}
        guards, self._guards = self._guards, {}
        here = asyncio.get_running_loop()
        ends: list[Any] = []
        for loop, each in objects.items():
            if loop is here:
                ends.append(each.close(grace))
            elif loop.is_running():
                future = asyncio.run_coroutine_threadsafe(each.close(grace), loop)
                ends.append(asyncio.wrap_future(future))
            elif not loop.is_closed():
                each.shut_down()
        await asyncio.gather(*ends)
        if here in guards:
            await guards[here].aclose()

    def __del__(self) -> None:
        for loop, each in getattr(self, "_objects", {}).items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(each.shut_down)

    def leave_to_parent(self) -> None:
        """In a forked child: begin anew."""
        # Kept: an object that the collector frees might say so to a socket, or to a selector,
        # that the parent goes on using.
        self._inherited.append((self._objects, self._guards))
        self._inherited_loops.update(self._objects)
        for each in self._objects.values():
            each.leave_to_parent()
        self._objects = {}
        self._guards = {}
        self.latest = None


def _closed_with_loop(bound: Bound) -> AsyncGenerator[None, None]:
    """Closes `bound` when its loop is about to be closed: a loop does so with open generators."""
    guard = _close_at_end(bound)
    step: Any = guard.__anext__()
    with contextlib.suppress(StopIteration):
        step.send(None)
    return guard


async def _close_at_end(bound: Bound) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await bound.close(None)


def _is_uvloops(loop: asyncio.AbstractEventLoop) -> bool:
    """True for uvloop's loops, and those derived from them; it need not be installed."""
    return any(each.__module__.startswith("uvloop") for each in type(loop).__mro__)
