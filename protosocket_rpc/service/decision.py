"""How far interceptors of a call have come: what they have decided, and what they have made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from protosocket_rpc.service.call import caught
from protosocket_rpc.service.call_details import ClientCallDetails

Proceed = Callable[[Any, Any], Awaitable[Any]]
"""Goes on with a call: takes its details and its request, or iterator of requests."""


class Decision:
    """What the interceptors of one call come to.

    Attributes:
        call: the call that they gave; None while they are at work, or if they have failed.
        error: what they raised.
    """

    call: Any = None
    error: BaseException | None = None
    _traceback: TracebackType | None = None

    async def reach(self, run: Proceed, details: ClientCallDetails, request: Any) -> None:
        """Run the interceptors."""
        try:
            self.call = await run(details, request)
        except BaseException as error:
            self.error = caught(error)
            self._traceback = self.error.__traceback__
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise

    def reached(self) -> bool:
        """True if the interceptors have ended."""
        return self.call is not None or self.error is not None

    def result(self) -> Any:
        """The call that they gave. Raises what they raised."""
        if self.error is not None:
            raise self.error.with_traceback(self._traceback)
        return self.call


class Made:
    """The last call that an interceptor has made; None before it has made one."""

    call: Any = None
    _first: asyncio.Event | None = None

    def set(self, call: Any) -> None:
        """It has made one."""
        self.call = call
        if self._first is not None:
            self._first.set()

    async def first(self) -> None:
        """Wait until it has made one."""
        if self.call is None:
            if self._first is None:
                self._first = asyncio.Event()
            await self._first.wait()
