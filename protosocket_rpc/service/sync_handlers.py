"""Plain functions and generators as handlers: each runs in a thread, from its start to its end.

::

    event loop                               thread of the pool
    request ───────────────────────────────> behavior(request, SyncServicerContext)
    request stream ── one at a time ───────> for request in requests
    reply stream <── a few ahead at most ─── yield reply

The wrappers made here are ordinary asynchronous handlers, so nothing else knows of threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from protosocket_rpc.metadata import Metadata, MetadataLike
from protosocket_rpc.status import CANCELLED, StatusCode

if TYPE_CHECKING:
    from protosocket_rpc.service.compression import Compression
    from protosocket_rpc.service.context import ServicerContext
    from protosocket_rpc.status import Status

Behavior = Callable[..., Any]
Result = TypeVar("Result")

# Replies that a generator may make before its client has taken the first of them.
_REPLIES_AHEAD: Final = 16


def is_async(behavior: Behavior) -> bool:
    """True for coroutine functions and async generator functions, however they are wrapped."""
    while isinstance(behavior, partial):
        behavior = behavior.func
    if not inspect.isroutine(behavior):
        call = getattr(type(behavior), "__call__", None)  # noqa: B004  # the function itself
        if call is not None and (
            inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)
        ):
            return True
    return inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)


def in_thread(
    behavior: Behavior,
    streams_requests: bool,
    streams_replies: bool,
    pool: concurrent.futures.Executor | None,
) -> Behavior:
    """The asynchronous handler that runs a plain function, or a generator, in a thread.

    Args:
        pool: where threads come from; None for the event loop's own pool.
    """

    def arguments(request: Any, context: SyncServicerContext) -> tuple[Any, Any]:
        return (SyncRequests(request, context) if streams_requests else request), context

    async def reply(request: Any, context: ServicerContext[Any, Any]) -> Any:
        sync_context = SyncServicerContext(context)
        job = _Job(pool, sync_context, partial(behavior, *arguments(request, sync_context)))
        return _no_coroutine(behavior, await job.result())

    async def replies(request: Any, context: ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        sync_context = SyncServicerContext(context)
        handoff = _Handoff(sync_context.loop)

        def make() -> None:
            try:
                made = behavior(*arguments(request, sync_context))
                for each in _no_coroutine(behavior, made):
                    if not handoff.put(each):
                        break
                close = getattr(made, "close", None)
                if close is not None:
                    close()
            finally:
                handoff.end()

        job = _Job(pool, sync_context, make)
        try:
            async for each in handoff:
                yield each
        except BaseException:
            handoff.close()
            await job.abandon()
            raise
        await job.result()

    return replies if streams_replies else reply


def _no_coroutine(behavior: Behavior, made: Any) -> Any:
    if inspect.isawaitable(made) or hasattr(made, "__aiter__"):
        if inspect.iscoroutine(made):
            made.close()
        name = getattr(behavior, "__qualname__", repr(behavior))
        raise TypeError(
            f"{name} is a plain function, so it ran in a thread, but it gave something to await: "
            "make it `async def`, or mark it with inspect.markcoroutinefunction"
        )
    return made


class _Job(Generic[Result]):
    """A function that runs in a thread, with the context variables of who starts it."""

    def __init__(
        self,
        pool: concurrent.futures.Executor | None,
        context: SyncServicerContext,
        function: Callable[[], Result],
    ) -> None:
        self._context = context
        self._claimed = threading.Lock()
        self._loop = context.loop
        self._done: asyncio.Future[Result] = self._loop.create_future()
        self._loop.run_in_executor(pool, self._run, partial(copy_context().run, function))

    def _run(self, function: Callable[[], Result]) -> None:
        if not self._claimed.acquire(blocking=False):
            return  # given up before its turn came
        try:
            finish: Callable[[], None] = partial(self._done.set_result, function())
        except concurrent.futures.CancelledError:
            finish = partial(self._done.set_exception, asyncio.CancelledError())
        except StopIteration as error:
            failure = RuntimeError("a handler raised StopIteration")
            failure.__cause__ = error
            finish = partial(self._done.set_exception, failure)
        except BaseException as error:
            finish = partial(self._done.set_exception, error)
        self._loop.call_soon_threadsafe(finish)

    async def result(self) -> Result:
        """What the function returns or raises. If cancelled, waits for its end all the same."""
        try:
            return await asyncio.shield(self._done)
        except asyncio.CancelledError:
            if not self._done.done():
                await self.abandon()
            raise

    async def abandon(self) -> None:
        """Tell the function that its RPC has ended, and wait for its end.

        A thread cannot be interrupted; what it does must not outlive its RPC unnoticed.
        """
        self._context.terminate()
        if self._claimed.acquire(blocking=False):
            self._done.cancel()  # it will never run
        while not self._done.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._done])
        if not self._done.cancelled():
            self._done.exception()  # nobody is left to be told


class _Handoff(AsyncIterator[Any]):
    """Passes replies from a thread to the event loop, a few at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[Any] = deque()
        self._room = threading.Semaphore(_REPLIES_AHEAD)
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._closed = False

    def put(self, item: Any) -> bool:
        """Pass one on, from the thread. False: nobody takes any more."""
        self._room.acquire()
        if self._closed:
            return False
        self._items.append(item)
        self._loop.call_soon_threadsafe(self._wake)
        return True

    def end(self) -> None:
        """There are no more. From the thread."""
        self._ended = True
        self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """Take no more."""
        self._closed = True
        self._room.release()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def __anext__(self) -> Any:
        while True:
            ended = self._ended  # first: the last may be put, and the end follow, in between
            if self._items:
                break
            if ended:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._room.release()
        return self._items.popleft()


class SyncServicerContext:
    """What a handler that runs in a thread sees of its RPC: ``grpc.ServicerContext``.

    Safe to use from the handler's thread. What has to happen on the event loop happens there,
    and the thread waits for it.
    """

    def __init__(self, context: ServicerContext[Any, Any]) -> None:
        self._context = context
        self.loop: asyncio.AbstractEventLoop = context.connection.loop
        self._lock = threading.Lock()
        self._active = True
        self._pending: concurrent.futures.Future[Any] | None = None
        self._callbacks: list[Callable[[], None]] = []
        context.add_done_callback(lambda _: self.terminate())

    # -- between the threads ---------------------------------------------------------------

    def wait(self, coro: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the event loop; the thread waits for it.

        Raises:
            concurrent.futures.CancelledError: the RPC has ended.
        """
        with self._lock:
            if not self._active:
                coro.close()
                raise concurrent.futures.CancelledError
            pending = asyncio.run_coroutine_threadsafe(coro, self.loop)
            self._pending = pending
        return pending.result()

    def terminate(self) -> None:
        """The RPC has ended: stop waiting, and call who wants to know. On the event loop."""
        with self._lock:
            if not self._active:
                return
            self._active = False
            pending = self._pending
            callbacks = self._callbacks
            self._callbacks = []
        if pending is not None:
            pending.cancel()
        for callback in callbacks:
            self.loop.call_soon(callback)

    # -- the life of the RPC ---------------------------------------------------------------

    def is_active(self) -> bool:
        """True until the RPC has ended, or was cancelled."""
        return self._active and not self._context.done()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None if there is none."""
        return self._context.time_remaining()

    def cancel(self) -> None:
        """End the RPC with CANCELLED."""
        self.loop.call_soon_threadsafe(self._context.stop, CANCELLED, "cancelled by the server")

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call `callback` on the event loop when the RPC ends.

        Returns:
            False if it has ended already; the callback is not called then.
        """
        with self._lock:
            if not self._active:
                return False
            self._callbacks.append(callback)
            return True

    def abort(
        self,
        code: StatusCode,
        details: str = "",
        trailing_metadata: MetadataLike | None = None,
    ) -> NoReturn:
        """As `ServicerContext.abort`."""
        self.wait(self._context.abort(code, details, trailing_metadata))

    def abort_with_status(self, status: Status) -> NoReturn:
        """As `ServicerContext.abort_with_status`."""
        self.wait(self._context.abort_with_status(status))

    # -- metadata and status ---------------------------------------------------------------

    def invocation_metadata(self) -> Metadata:
        """The metadata that came with the call."""
        return self._context.invocation_metadata()

    def send_initial_metadata(self, initial_metadata: MetadataLike) -> None:
        """As `ServicerContext.send_initial_metadata`."""
        self.wait(self._context.send_initial_metadata(initial_metadata))

    def set_trailing_metadata(self, trailing_metadata: MetadataLike) -> None:
        """As `ServicerContext.set_trailing_metadata`."""
        self._context.set_trailing_metadata(trailing_metadata)

    def trailing_metadata(self) -> Metadata:
        """What was set by `set_trailing_metadata`."""
        return self._context.trailing_metadata()

    def set_code(self, code: StatusCode) -> None:
        """As `ServicerContext.set_code`."""
        self._context.set_code(code)

    def code(self) -> StatusCode:
        """What was set by `set_code`; OK before."""
        return self._context.code()

    def set_details(self, details: str) -> None:
        """As `ServicerContext.set_details`."""
        self._context.set_details(details)

    def details(self) -> str:
        """What was set by `set_details`."""
        return self._context.details()

    def set_compression(self, compression: Compression) -> None:
        """As `ServicerContext.set_compression`."""
        self._context.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """As `ServicerContext.disable_next_message_compression`."""
        self._context.disable_next_message_compression()

    # -- who calls -------------------------------------------------------------------------

    def peer(self) -> str:
        """As `ServicerContext.peer`."""
        return self._context.peer()

    def peer_identities(self) -> list[bytes] | None:
        """As `ServicerContext.peer_identities`."""
        return self._context.peer_identities()

    def peer_identity_key(self) -> str | None:
        """As `ServicerContext.peer_identity_key`."""
        return self._context.peer_identity_key()

    def auth_context(self) -> dict[str, list[bytes]]:
        """As `ServicerContext.auth_context`."""
        return self._context.auth_context()


class SyncRequests(Iterator[Any]):
    """A request stream, as a handler that runs in a thread iterates over it."""

    def __init__(self, requests: AsyncIterator[Any], context: SyncServicerContext) -> None:
        self._requests = requests
        self._context = context

    def __next__(self) -> Any:
        request = self._context.wait(_next_or(self._requests, self))
        if request is self:
            raise StopIteration
        return request


async def _next_or(requests: AsyncIterator[Any], default: Any) -> Any:
    try:
        return await requests.__anext__()
    except StopAsyncIteration:
        return default
