"""Handlers of either library, for servers of the other: what a handler expects of its context.

Contexts of the two have the same names, and take each other's codes, compressions and metadata.
What is left to adapt is what they give: `EOF`, codes as a `StatusCode`, metadata as `Metadata`,
and what `abort` raises.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, NoReturn

from protosocket_rpc.compat.grpcio import aio, grpc
from protosocket_rpc.errors import AbortError
from protosocket_rpc.metadata import Metadata, MetadataLike
from protosocket_rpc.service.compression import Compression
from protosocket_rpc.service.context import EOF
from protosocket_rpc.service.current import CURRENT_RPC
from protosocket_rpc.service.rich_status import google_details
from protosocket_rpc.service.rpc_handlers import RpcMethodHandler, describe, handler_of
from protosocket_rpc.service.sync_handlers import is_async
from protosocket_rpc.status import CANCELLED, StatusCode, to_status_code

if TYPE_CHECKING:
    from protosocket_rpc.status import Status

Behavior = Callable[..., Any]


class _Aborted(AbortError, aio.AbortError):  # type: ignore[misc]  # grpcio has no types
    """What `abort` raises: caught by the name of either library.

    Attributes:
        original: what the server's own library has raised, and wants to see again.
    """

    def __init__(self, original: BaseException) -> None:
        super().__init__(str(original))
        self.original = original


class GrpcContext:
    """grpcio's context, for a handler that was written for this package.

    Attributes:
        ended: as of `ServicerContext`: the RPC has its end.
        loop: the one that the handler runs on.
    """

    def __init__(self, context: Any, path: str) -> None:
        self._context = context
        self._path = path
        self._initial: MetadataLike = ()
        self._cancelled = False
        self.loop = asyncio.get_running_loop()
        # Calls that the handler has made, which are to end with this RPC.
        self._calls: set[Any] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def method(self) -> str:
        return self._path

    async def read(self) -> Any:
        message = await self._context.read()
        return EOF if message is aio.EOF else message

    def invocation_metadata(self) -> Metadata:
        return Metadata.from_tuple(self._context.invocation_metadata())

    async def send_initial_metadata(self, initial_metadata: MetadataLike) -> None:
        self._initial = tuple(initial_metadata)
        await self._context.send_initial_metadata(self._initial)

    def initial_metadata(self) -> Metadata:
        return Metadata.from_tuple(self._initial)

    def set_trailing_metadata(self, trailing_metadata: MetadataLike) -> None:
        self._context.set_trailing_metadata(tuple(trailing_metadata))

    def trailing_metadata(self) -> Metadata:
        return Metadata.from_tuple(self._context.trailing_metadata())

    def code(self) -> StatusCode:
        return to_status_code(self._context.code())

    def set_compression(self, compression: Compression) -> None:
        known = compression is not Compression.Zstd  # which is a wish, and no duty
        self._context.set_compression(grpc.Compression(compression if known else 0))

    async def abort(
        self,
        code: StatusCode,
        details: str = "",
        trailing_metadata: MetadataLike | None = None,
    ) -> NoReturn:
        try:
            await self._context.abort(code, details, tuple(trailing_metadata or ()))
        except aio.AbortError as error:
            raise _Aborted(error) from None
        raise AssertionError("abort has raised")

    async def abort_with_status(self, status: Status) -> NoReturn:
        metadata = (*(status.trailing_metadata or ()), *google_details(status))
        await self.abort(status.code, status.details, metadata)

    # -- for calls that the handler makes --------------------------------------------------

    @property
    def ended(self) -> bool:
        return self._cancelled or bool(self._context.done())

    def cancelled(self) -> bool:
        return self._cancelled or bool(self._context.cancelled())

    def time_remaining(self) -> float | None:
        left: float | None = self._context.time_remaining()
        return left

    def adopt(self, call: Any) -> None:
        if self._cancelled:
            call.on_parent_stopped(CANCELLED)
        else:
            self._calls.add(call)

    def disown(self, call: Any) -> None:
        self._calls.discard(call)

    def on_cancelled(self) -> None:
        """grpcio has cancelled the handler: its client did so, or is gone, or time is up."""
        self._cancelled = True
        for call in list(self._calls):
            call.on_parent_stopped(CANCELLED)


class OwnContext:
    """This package's context, for a handler that was written for grpcio."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        message = await self._context.read()
        return aio.EOF if message is EOF else message

    async def abort(
        self, code: Any, details: str = "", trailing_metadata: MetadataLike | None = None
    ) -> NoReturn:
        try:
            await self._context.abort(code, details, trailing_metadata)
        except AbortError as error:
            raise _Aborted(error) from None
        raise AssertionError("abort has raised")

    async def abort_with_status(self, status: Any) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)


def for_grpcio(path: str, handler: RpcMethodHandler) -> RpcMethodHandler:
    """A handler of this package, as a grpcio server runs it.

    One that is a plain function stays as it is: what it is given in its thread is the same.
    """
    method, behavior = describe(path, handler)
    if not is_async(behavior):
        return handler

    def enter(context: Any) -> GrpcContext:
        adapted = GrpcContext(context, path)
        CURRENT_RPC.set(adapted)
        return adapted

    return handler_of(method, _within(behavior, enter, GrpcContext.on_cancelled))


def from_grpcio(path: str, handler: RpcMethodHandler) -> RpcMethodHandler:
    """A handler of grpcio, as a server of this package runs it."""
    method, behavior = describe(path, handler)
    if not is_async(behavior):
        return handler
    return handler_of(method, _within(behavior, OwnContext, lambda context: None))


def _within(
    behavior: Behavior, enter: Callable[[Any], Any], on_cancelled: Callable[[Any], None]
) -> Behavior:
    """A handler whose context is adapted. Of the same kind of function, by which it is judged."""

    async def reply(request: Any, context: Any) -> Any:
        adapted = enter(context)
        try:
            return await behavior(request, adapted)
        except _Aborted as error:
            raise error.original from None
        except asyncio.CancelledError:
            on_cancelled(adapted)
            raise

    async def replies(request: Any, context: Any) -> AsyncIterator[Any]:
        adapted = enter(context)
        made = behavior(request, adapted)
        try:
            async for each in made:
                yield each
        except _Aborted as error:
            raise error.original from None
        except asyncio.CancelledError:
            on_cancelled(adapted)
            raise
        finally:
            await made.aclose()

    return replies if _is_generator(behavior) else reply


def _is_generator(behavior: Behavior) -> bool:
    call = getattr(type(behavior), "__call__", None)  # noqa: B004  # the function itself
    return inspect.isasyncgenfunction(behavior) or inspect.isasyncgenfunction(call)
