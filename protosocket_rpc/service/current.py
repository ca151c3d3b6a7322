"""The RPC that the running handler serves: what calls made inside it inherit from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class MadeCall(Protocol):
    """A call that a handler has made, by whatever library."""

    def on_parent_stopped(self, code: int) -> None:
        """The RPC of that handler has ended, for this status code."""


class ServedRpc(Protocol):
    """What a call asks of the RPC whose handler makes it, whatever library serves that."""

    @property
    def ended(self) -> bool:
        """True once the RPC has its end."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where the handler runs."""

    def cancelled(self) -> bool:
        """True if that end came from outside of the handler."""

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""

    def adopt(self, call: MadeCall) -> None:
        """End `call` if the RPC ends before it and before its handler."""

    def disown(self, call: MadeCall) -> None:
        """`call` has ended."""


CURRENT_RPC: ContextVar[ServedRpc | None] = ContextVar("protosocket_rpc.current_rpc", default=None)


@contextmanager
def detached() -> Iterator[None]:
    """Calls made inside of the block inherit nothing from the RPC that the handler serves.

    Without it, a call made in a handler (or in a task that a handler started) has no more time
    than what is left of the handler's own deadline, and is cancelled when the handler's RPC is
    cancelled, expires, or loses its client. For work that is to be done whatever becomes of the
    caller: a task that is started inside of the block is detached as well.
    """
    token = CURRENT_RPC.set(None)
    try:
        yield
    finally:
        CURRENT_RPC.reset(token)
