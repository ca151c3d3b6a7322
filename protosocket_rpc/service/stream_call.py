"""Calls with a stream of replies: what the caller holds, and the RPC behind it.

Two objects, so that a caller who lets go of the one (by leaving an ``async for``, say) is
noticed: the other lives on in its connection's table, and is cancelled.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, TypeVar

from protosocket_rpc.errors import UsageError
from protosocket_rpc.metadata import Metadata
from protosocket_rpc.service.debug import DebugString
from protosocket_rpc.service.reply_stream import Replies, ReplyStream
from protosocket_rpc.status import CANCELLED, StatusCode

Request = TypeVar("Request")
Reply = TypeVar("Reply")

MIXED_STYLES: Final = "The iterator and read/write APIs may not be mixed on a single RPC."


class StreamCall(Generic[Request, Reply]):
    """A call with a stream of replies: iterate over it, or `read()`."""

    def __init__(self, rpc: ReplyStream) -> None:
        self._rpc = rpc
        self._style = ""
        rpc.owner = weakref.ref(self)
        rpc.owner_type = type(self)

    def __del__(self) -> None:
        rpc = getattr(self, "_rpc", None)
        if rpc is not None and not rpc.finished:
            rpc.abandon_soon(CANCELLED, "Cancelled upon garbage collection!")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._rpc!r}>"

    def _use(self, style: str) -> None:
        if self._style and self._style != style:
            raise UsageError(MIXED_STYLES)
        self._style = style

    def __aiter__(self) -> AsyncIterator[Reply]:
        self._use("iterator")
        return Replies(self, self._rpc)

    async def read(self) -> Reply | Any:
        """The next reply; `EOF` after the last, for ever.

        Raises:
            AioRpcError: the RPC has ended with a status other than OK.
            UsageError: the call was iterated over.
        """
        self._use("read/write")
        return await self._rpc.next()

    def cancel(self) -> bool:
        """Cancel the RPC. False if it has ended already."""
        return self._rpc.cancel()

    def cancelled(self) -> bool:
        """True if the RPC ended with CANCELLED."""
        return self._rpc.cancelled()

    def done(self) -> bool:
        """True if the RPC has ended."""
        return self._rpc.done()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None if there is none."""
        return self._rpc.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call `callback` with this call when it has ended; soon, if it has."""
        self._rpc.add_done_callback(callback)

    async def initial_metadata(self) -> Metadata:
        """What the server sends before its first message; waits for it."""
        return await self._rpc.initial_metadata()

    async def trailing_metadata(self) -> Metadata:
        """What the server sends with the end; waits for it."""
        return await self._rpc.trailing_metadata()

    async def code(self) -> StatusCode:
        """How the RPC ended; waits for it."""
        return await self._rpc.code()

    async def details(self) -> str:
        """The text that came with the code; waits for it."""
        return await self._rpc.details()

    async def status_details(self) -> tuple[bytes, ...]:
        """The rich details of the status, serialized; waits for it. See `service.rich_status`."""
        return await self._rpc.status_details()

    async def wait_for_connection(self) -> None:
        """Wait until the RPC is on a connection. Raises what the RPC ended with, if it did."""
        await self._rpc.wait_for_connection()

    def debug_error_string(self) -> DebugString:
        """Target, peer and method, for people. May be awaited, as in ``grpc.aio``."""
        return self._rpc.debug_error_string()


class UnaryStreamCall(StreamCall[Request, Reply]):
    """A call with one request and a stream of replies."""


class StreamStreamCall(StreamCall[Request, Reply]):
    """A call with a stream of requests and a stream of replies."""

    async def write(self, request: Request) -> None:
        """Send one request; returns when the next may be sent.

        Raises:
            AioRpcError: the RPC has failed meanwhile.
            UsageError: the requests come from an iterator.
            asyncio.InvalidStateError: the requests are complete, or the RPC had ended before.
        """
        self._check_writes()
        await self._rpc.send_request(request)

    async def done_writing(self) -> None:
        """The requests are complete."""
        self._check_writes()
        await self._rpc.close_requests()

    def _check_writes(self) -> None:
        if self._rpc.iterates:
            raise UsageError("the requests of this call come from an iterator")
