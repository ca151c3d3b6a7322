"""Interceptors: one shape for all four kinds of RPC, on either side.

An interceptor is an async generator function. It is given the RPC and what comes next, and yields
the replies, of which an RPC without a reply stream has one::

    async def timing(call, next):
        started = time.monotonic()
        try:
            async for reply in next(call):
                yield reply
        finally:
            log.info("%s: %s in %.3f s", call.method, call.code, time.monotonic() - started)

Before ``next(call)`` the request and its metadata can be seen and changed, or the RPC refused.
Each reply passes through. When the loop has ended, so has the RPC: its status and its trailing
metadata are there; it raises if the RPC failed. Calling ``next`` again tries again; not calling
it answers without the RPC.

::

    caller ──> first ──> second ──> ... ──> the RPC, or the handler
    caller <── first <── second <── ... <── its replies
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, NoReturn

from protosocket_rpc.metadata import Metadata
from protosocket_rpc.status import StatusCode

_NOTHING = object()


class Invocation:
    """One RPC, as interceptors see it.

    Attributes:
        method: its path, ``/package.Service/Method``.
        streams_requests, streams_replies: which of the four kinds it is.
        metadata: what goes, or came, with the request. A channel's interceptors may change it
            before they call ``next``.
        request: the request or, if `streams_requests`, an async iterator of them. May be
            replaced before ``next`` is called; `map_requests` does so for either.
        code: how the RPC ended; None before it has.
        details: the text that goes with the code.
        initial_metadata: what the server sent before the first reply; there with that reply.
        trailing_metadata: what the server sent with the end; there when ``next`` has ended.
    """

    method: str
    streams_requests: bool
    streams_replies: bool
    metadata: Metadata
    request: Any
    code: StatusCode | None
    details: str
    initial_metadata: Metadata
    trailing_metadata: Metadata

    def __init__(self) -> None:
        self._opened: list[AsyncIterator[Any]] = []

    def map_requests(self, function: Callable[[Any], Any]) -> None:
        """Put ``function(request)`` in the place of each request, whether one or a stream."""
        if self.streams_requests:
            self.request = _mapped(self.request, function)
        else:
            self.request = function(self.request)

    async def abort(self, code: StatusCode, details: str = "") -> NoReturn:
        """End the RPC with a status, and leave the interceptor by an exception."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the generators that have not ended, from the outermost on."""
        for replies in self._opened:
            aclose = getattr(replies, "aclose", None)
            if aclose is not None:
                await aclose()
        self._opened.clear()

    async def only_reply(self, replies: AsyncIterator[Any]) -> Any:
        """Run the whole chain of an RPC with one reply, for that reply.

        Raises:
            TypeError: the interceptors yielded none, or several.
        """
        only: Any = _NOTHING
        try:
            async for reply in replies:
                if only is not _NOTHING:
                    raise TypeError(f"interceptors of {self.method} yielded more than one reply")
                only = reply
        finally:
            await self.close()
        if only is _NOTHING:
            raise TypeError(f"interceptors of {self.method} yielded no reply")
        return only

    async def all_replies(self, replies: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        """Run the whole chain of an RPC with a reply stream."""
        try:
            async for reply in replies:
                yield reply
        finally:
            await self.close()


Next = Callable[[Any], AsyncIterator[Any]]
Interceptor = Callable[[Any, Next], AsyncIterator[Any]]


class _Link:
    """An interceptor and what comes after it."""

    __slots__ = ("_interceptor", "_next")

    def __init__(self, interceptor: Interceptor, next: Next) -> None:
        self._interceptor = interceptor
        self._next = next

    def __call__(self, call: Invocation) -> AsyncIterator[Any]:
        replies = self._interceptor(call, self._next)
        call._opened.append(replies)
        return replies


def chain(interceptors: Sequence[Interceptor], last: Next) -> Next:
    """What calls the first interceptor, which calls the second, and so on, and then `last`."""
    next: Next = _Link(lambda call, _: last(call), last)
    for interceptor in reversed(interceptors):
        next = _Link(interceptor, next)
    return next


async def _mapped(
    requests: AsyncIterator[Any], function: Callable[[Any], Any]
) -> AsyncGenerator[Any, None]:
    async for request in requests:
        yield function(request)
