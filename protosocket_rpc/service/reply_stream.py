"""An RPC with a stream of replies, and the way to iterate over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from protosocket_rpc.service.call import LOCALLY_CANCELLED, Call, caught
from protosocket_rpc.service.context import EOF, NOT_HERE
from protosocket_rpc.service.flow import MessageRefused
from protosocket_rpc.service.parsing import parse_failure
from protosocket_rpc.service.waiters import Waiters, wait, wake
from protosocket_rpc.status import CANCELLED, OK

Reply = TypeVar("Reply")


class ReplyStream(Call):
    """An RPC with a stream of replies."""

    streams_replies = True
    _readers: Waiters | None = None
    # What the caller holds, and only the caller does; and what makes another one.
    owner: Callable[[], Any] | None = None
    owner_type: Callable[[ReplyStream], Any] | None = None

    def handle(self) -> Any:
        owner = None if self.owner is None else self.owner()
        if owner is None and self.owner_type is not None:
            owner = self.owner_type(self)  # the caller has let go of it, but not of its callbacks
        return owner

    def on_readable(self) -> None:
        if self._readers:
            wake(self._readers)

    def _on_done(self) -> None:
        super()._on_done()
        self.on_readable()

    def cancel(self) -> bool:
        """Cancel the RPC, and drop what was not read. False if it has ended, and all was read."""
        receive = self.receive
        if self.finished and receive is not None and receive.unread:
            receive.drop()
            self._locally_cancelled = True
            self._outcome = CANCELLED
            self._details = LOCALLY_CANCELLED
            return True
        cancelled = super().cancel()
        if cancelled and receive is not None:
            receive.drop()
        return cancelled

    def done(self) -> bool:
        """True if the RPC has ended, and all that has arrived was read."""
        return self.finished and not (self.receive is not None and self.receive.unread)

    def abandon_soon(self, code: int, message: str) -> None:
        """As `abandon`, from wherever the collector runs."""
        loop = self._connector.loop
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.abandon, code, message)

    def _refuse(self, code: int, details: str, cause: BaseException | None) -> None:
        """End the RPC because of a reply that cannot be taken."""
        self.fail(code, details, cause)
        if self._outcome == OK:
            # The server has ended it already; its caller, who is behind, learns of this end.
            self._outcome, self._details, self._cause = code, details, cause

    def next_here(self) -> Any:
        """The next reply if it is here; EOF after the last; NOT_HERE if it is still to come.

        Raises what the RPC ended with.
        """
        receive = self.receive
        body = None
        if receive is not None and not self._locally_cancelled:
            try:
                body = receive.take()
            except MessageRefused as refused:
                self._refuse(refused.code, str(refused), None)
        if body is not None:
            try:
                return self._method.parse_reply(body)
            except Exception as error:  # what the message library raises is its own affair
                failure = parse_failure(error, "Exception deserializing response!")
                self._refuse(*failure, caught(error))
        if self.finished:
            if self._outcome == OK:
                return EOF
            raise self.error()
        return NOT_HERE

    async def next(self) -> Any:
        """As `next_here`, and waits for it."""
        while True:
            reply = self.next_here()
            if reply is not NOT_HERE:
                return reply
            if self._readers is None:
                self._readers = []
            try:
                await wait(self._readers, self._connector.loop.create_future())
            except asyncio.CancelledError:
                self.cancel()  # the task that waits was cancelled: so is the RPC
                raise


class ReplyStreamRequests(ReplyStream):
    """An RPC with a stream of requests and a stream of replies."""

    streams_requests = True


class Replies(AsyncIterator[Reply]):
    """Iterates over the replies. Holds the caller's call, which lives as long as the loop does."""

    __slots__ = ("_call", "_rpc")

    def __init__(self, call: object, rpc: ReplyStream) -> None:
        self._call = call
        self._rpc = rpc

    async def __anext__(self) -> Reply:
        reply: Any = self._rpc.next_here()
        if reply is NOT_HERE:
            reply = await self._rpc.next()
        if reply is EOF:
            raise StopAsyncIteration
        message: Reply = reply
        return message
