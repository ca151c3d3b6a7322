"""Calls that interceptors stand before, and what interceptors put in the place of a call."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from protosocket_rpc.errors import AioRpcError, UsageError
from protosocket_rpc.metadata import Metadata
from protosocket_rpc.service.call import ALREADY_FINISHED, LOCALLY_CANCELLED
from protosocket_rpc.service.context import EOF
from protosocket_rpc.service.debug import DebugString
from protosocket_rpc.service.decision import Decision, Made
from protosocket_rpc.service.stream_call import MIXED_STYLES
from protosocket_rpc.status import StatusCode

DoneCallback = Callable[[Any], Any]


class InterceptedCall:
    """A call of which interceptors decide what it is.

    Until they have, it is in flight; then it does as the call that they gave does.

    Args:
        decision: of the interceptors.
        task: that they run in; None if they have ended.
        timeout: seconds; None for none.
        written: what is written to the request stream; None if requests come from an iterator.
    """

    _cancelling = False

    def __init__(
        self,
        decision: Decision,
        task: asyncio.Task[None] | None,
        timeout: float | None,
        written: asyncio.Queue[Any] | None,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._decision = decision
        self._task = task
        self._deadline = None if timeout is None else loop.time() + timeout
        self._written = written

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'done' if self.done() else 'in flight'}>"

    # -- the call --------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the RPC, and the interceptors. False if it has ended already."""
        decision = self._decision
        if decision.reached():
            return decision.call is not None and bool(decision.call.cancel())
        if self._cancelling or self._task is None:
            return False
        self._cancelling = True
        return self._task.cancel()

    def cancelled(self) -> bool:
        """True if the RPC ended with CANCELLED."""
        decision = self._decision
        error = decision.error
        if error is None:
            return decision.call is not None and bool(decision.call.cancelled())
        if isinstance(error, AioRpcError):
            return error.code() is StatusCode.CANCELLED
        return isinstance(error, asyncio.CancelledError)

    def done(self) -> bool:
        """True if the RPC has ended."""
        decision = self._decision
        return decision.error is not None or (
            decision.call is not None and bool(decision.call.done())
        )

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None if there is none."""
        call = self._decision.call
        if call is not None:
            left: float | None = call.time_remaining()
            return left
        return None if self._deadline is None else max(self._deadline - self._loop.time(), 0.0)

    def add_done_callback(self, callback: DoneCallback) -> None:
        """Call `callback` with this call when it has ended; soon, if it has."""
        # One that is dropped is to be cancelled: neither its end nor who waits for that holds it.
        owner = weakref.ref(self)
        kind, decision, loop = type(self), self._decision, self._loop

        def on_reached(_: object = None) -> None:
            if decision.call is None:
                loop.call_soon(callback, owner() or kind(decision, None, None, None))
            else:
                decision.call.add_done_callback(lambda call: callback(owner() or call))

        if self._decision.reached() or self._task is None:
            on_reached()
        else:
            self._task.add_done_callback(on_reached)

    async def initial_metadata(self) -> Metadata:
        """What the server sends before its first message; waits for it."""
        try:
            metadata: Metadata = await (await self._resolved()).initial_metadata()
        except AioRpcError as error:
            return error.initial_metadata()
        except _InterceptorsCancelled:
            return Metadata()
        return metadata

    async def trailing_metadata(self) -> Metadata:
        """What the server sends with the end; waits for it."""
        try:
            metadata: Metadata = await (await self._resolved()).trailing_metadata()
        except AioRpcError as error:
            return error.trailing_metadata()
        except _InterceptorsCancelled:
            return Metadata()
        return metadata

    async def code(self) -> StatusCode:
        """How the RPC ended; waits for it. UNKNOWN if an interceptor failed."""
        try:
            code: StatusCode = await (await self._resolved()).code()
        except AioRpcError as error:
            return error.code()
        except _InterceptorsCancelled:
            return StatusCode.CANCELLED
        except Exception:  # an interceptor's own: awaiting the call raises it
            return StatusCode.UNKNOWN
        return code

    async def details(self) -> str:
        """The text that came with the code; waits for it."""
        try:
            details: str = await (await self._resolved()).details()
        except AioRpcError as error:
            return error.details() or ""
        except _InterceptorsCancelled:
            return LOCALLY_CANCELLED
        except Exception as error:  # an interceptor's own: awaiting the call raises it
            return f"an interceptor raised {error!r}"
        return details

    async def status_details(self) -> tuple[bytes, ...]:
        """The rich details of the status, serialized; waits for it. See `service.rich_status`."""
        try:
            details: tuple[bytes, ...] = await (await self._resolved()).status_details()
        except AioRpcError as error:
            return error.status_details()
        except Exception:  # an interceptor's own, or cancelled: neither has any
            return ()
        return details

    def debug_error_string(self) -> DebugString:
        """Where and how it happened, for people."""
        call = self._decision.call
        if call is not None:
            text: DebugString = call.debug_error_string()
            return text
        error = self._decision.error
        return DebugString(error.debug_error_string() if isinstance(error, AioRpcError) else "")

    async def wait_for_connection(self) -> None:
        """Wait until the RPC is on a connection. Raises what the RPC ended with, if it did."""
        await self._watch()
        await self._decision.result().wait_for_connection()

    async def _reached(self) -> Any:
        """The call that the interceptors give. Being cancelled meanwhile cancels them."""
        if not self._decision.reached() and self._task is not None:
            await self._task
        return self._decision.result()

    async def _watch(self) -> None:
        """Wait for the interceptors. Being cancelled meanwhile leaves them alone."""
        if not self._decision.reached() and self._task is not None:
            await asyncio.shield(self._task)

    async def _resolved(self) -> Any:
        """As `_reached`, for what they are not to be cancelled for."""
        await self._watch()
        if isinstance(self._decision.error, asyncio.CancelledError):
            raise _InterceptorsCancelled
        return self._decision.result()


class _InterceptorsCancelled(Exception):
    """The call was cancelled while its interceptors were at work."""


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


class _WithReply(InterceptedCall):
    def __await__(self) -> Generator[Any, Any, Any]:
        call = yield from self._reached().__await__()
        return (yield from call.__await__())


class _WithReplies(InterceptedCall):
    _iterating = False
    _reading = False

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._reading:
            raise UsageError(MIXED_STYLES)
        self._iterating = True
        return self._replies()

    async def _replies(self) -> AsyncIterator[Any]:
        call = await self._reached()
        async for reply in call:
            yield reply

    async def read(self) -> Any:
        """The next reply; `EOF` after the last, for ever."""
        if self._iterating:
            raise UsageError(MIXED_STYLES)
        self._reading = True
        call = await self._reached()
        return await call.read()


async def written_requests(written: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """What is written to a request stream: interceptors are to see an iterator all the same."""
    while (request := await written.get()) is not EOF:
        yield request
        written.task_done()
    written.task_done()


class _WithRequests(InterceptedCall):
    _half_closed = False

    async def write(self, request: Any) -> None:
        """Send one request; returns when the next may be sent.

        Raises:
            UsageError: the requests come from an iterator.
            asyncio.InvalidStateError: the requests are complete, or the RPC has ended.
            Exception: what an interceptor has raised.
        """
        await self._put(request)

    async def done_writing(self) -> None:
        """The requests are complete."""
        if not self._half_closed:
            await self._put(EOF)
            self._half_closed = True

    async def _put(self, request: Any) -> None:
        written = self._written
        if written is None:
            raise UsageError("the requests of this call come from an iterator")
        if self._half_closed:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        if not self.done():
            written.put_nowait(request)
            taken = asyncio.ensure_future(written.join())
            ended = asyncio.ensure_future(self.code())
            try:
                await asyncio.wait([taken, ended], return_when=asyncio.FIRST_COMPLETED)
                if taken.done():
                    return
            finally:
                taken.cancel()
                ended.cancel()
        if request is not EOF:
            error = self._decision.error
            if isinstance(error, Exception) and not isinstance(error, AioRpcError):
                self._decision.result()  # raises it: an interceptor's own
            raise asyncio.InvalidStateError(ALREADY_FINISHED)


class InterceptedUnaryUnaryCall(_WithReply):
    """A call with one request and one reply, and interceptors."""


class InterceptedUnaryStreamCall(_WithReplies):
    """A call with one request and a stream of replies, and interceptors."""


class InterceptedStreamUnaryCall(_WithRequests, _WithReply):
    """A call with a stream of requests and one reply, and interceptors."""


class InterceptedStreamStreamCall(_WithRequests, _WithReplies):
    """A call with a stream of requests and a stream of replies, and interceptors."""


# -- what interceptors give instead of a call ----------------------------------------------


class _Substitute:
    """What stands for a call because an interceptor answered in its place.

    Args:
        made: has the call that the metadata is taken from.
    """

    def __init__(self, made: Made) -> None:
        self._made = made

    def time_remaining(self) -> float | None:
        call = self._made.call
        left: float | None = None if call is None else call.time_remaining()
        return left

    async def initial_metadata(self) -> Metadata:
        call = self._made.call
        metadata: Metadata = Metadata() if call is None else await call.initial_metadata()
        return metadata

    async def trailing_metadata(self) -> Metadata:
        call = self._made.call
        metadata: Metadata = Metadata() if call is None else await call.trailing_metadata()
        return metadata

    async def status_details(self) -> tuple[bytes, ...]:
        return ()

    def debug_error_string(self) -> DebugString:
        call = self._made.call
        text: DebugString = DebugString("") if call is None else call.debug_error_string()
        return text

    async def wait_for_connection(self) -> None:
        if self._made.call is not None:
            await self._made.call.wait_for_connection()


class SubstituteReply(_Substitute):
    """A reply that an interceptor gave: a call that has ended well."""

    def __init__(self, reply: Any, made: Made) -> None:
        super().__init__(made)
        self._reply = reply

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from ()
        return self._reply

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_done_callback(self, callback: DoneCallback) -> None:
        asyncio.get_running_loop().call_soon(callback, self)

    async def code(self) -> StatusCode:
        return StatusCode.OK

    async def details(self) -> str:
        return ""


class SubstituteReplies(_Substitute):
    """Replies that an interceptor gave: a call that ends as they do.

    They are pulled by a task, one ahead of who takes them, so that what makes them runs from its
    start to its end in one place, and the call begins before anyone reads.
    """

    _cancelling = False

    def __init__(
        self, replies: AsyncIterator[Any], made: Made, task: asyncio.Task[None] | None = None
    ) -> None:
        """Begin to pull the replies; or stand for one that was dropped, whose `task` has ended."""
        super().__init__(made)
        self._source = replies
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._ended = task is not None
        if task is None:
            task = asyncio.ensure_future(_pull(replies, self._replies))
            task.add_done_callback(_retrieve)
        self._task = task

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None and not task.done() and not task.get_loop().is_closed():
            task.get_loop().call_soon_threadsafe(task.cancel)

    def cancel(self) -> bool:
        if self.done():
            return False
        self._cancelling = True
        return self._task.cancel()

    def cancelled(self) -> bool:
        if self._cancelling or self._task.cancelled():
            return True
        if not self._task.done():
            return False
        error = self._task.exception()
        return isinstance(error, AioRpcError) and error.code() is StatusCode.CANCELLED

    def done(self) -> bool:
        return self._cancelling or self._task.done()

    def add_done_callback(self, callback: DoneCallback) -> None:
        owner = weakref.ref(self)
        source, made = self._source, self._made
        self._task.add_done_callback(
            lambda task: callback(owner() or SubstituteReplies(source, made, task))
        )

    async def _outcome(self) -> tuple[StatusCode, str]:
        await asyncio.wait([self._task])
        if self._cancelling or self._task.cancelled():
            return StatusCode.CANCELLED, LOCALLY_CANCELLED
        error = self._task.exception()
        if error is None:
            return StatusCode.OK, ""
        if isinstance(error, AioRpcError):
            return error.code(), error.details() or ""
        return StatusCode.UNKNOWN, f"an interceptor raised {error!r}"

    async def code(self) -> StatusCode:
        return (await self._outcome())[0]

    async def details(self) -> str:
        return (await self._outcome())[1]

    async def status_details(self) -> tuple[bytes, ...]:
        await asyncio.wait([self._task])
        error = None if self._task.cancelled() else self._task.exception()
        return error.status_details() if isinstance(error, AioRpcError) else ()

    async def initial_metadata(self) -> Metadata:
        await self._first_call()
        return await super().initial_metadata()

    async def wait_for_connection(self) -> None:
        await self._first_call()
        await super().wait_for_connection()

    async def _first_call(self) -> None:
        made = asyncio.ensure_future(self._made.first())
        try:
            await asyncio.wait([made, self._task], return_when=asyncio.FIRST_COMPLETED)
        finally:
            made.cancel()

    async def trailing_metadata(self) -> Metadata:
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            error = self._task.exception()
            if isinstance(error, AioRpcError):
                return error.trailing_metadata()
        return await super().trailing_metadata()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        reply = await self.read()
        if reply is EOF:
            raise StopAsyncIteration
        return reply

    async def read(self) -> Any:
        if not (self._ended or self._cancelling):
            try:
                reply = await self._replies.get()
            except asyncio.CancelledError:
                self.cancel()  # the task that waits was cancelled: so is the RPC
                raise
            if reply is not EOF:
                self._replies.task_done()
                return reply
            self._ended = True
            self._replies.put_nowait(EOF)  # for others who wait
        await asyncio.wait([self._task])
        if self._cancelling:
            raise asyncio.CancelledError(LOCALLY_CANCELLED)
        self._task.result()
        return EOF


async def _pull(replies: AsyncIterator[Any], into: asyncio.Queue[Any]) -> None:
    try:
        async for reply in replies:
            into.put_nowait(reply)
            await into.join()
    finally:
        into.put_nowait(EOF)
        aclose = getattr(replies, "aclose", None)
        if aclose is not None:
            await aclose()
