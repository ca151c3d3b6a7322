"""Interceptors of a server: ``grpc.aio``'s, and this package's own, in any order.

Interceptors of the own shape alone are folded into the handlers as these are added. One of
``grpc.aio`` decides for each RPC which handler it gets; then the lookup is part of the RPC.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from protosocket_rpc.metadata import Metadata
from protosocket_rpc.service.interceptors import Interceptor, Invocation, chain
from protosocket_rpc.service.rpc_handlers import Behavior, HandlerCallDetails, RpcMethodHandler
from protosocket_rpc.service.sync_handlers import is_async
from protosocket_rpc.status import StatusCode, status_code

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext

Resolve = Callable[[HandlerCallDetails], Awaitable["RpcMethodHandler | None"]]


class ServerInterceptor(ABC):
    """Decides how each RPC is handled: ``grpc.aio.ServerInterceptor``."""

    @abstractmethod
    async def intercept_service(
        self, continuation: Resolve, handler_call_details: HandlerCallDetails
    ) -> RpcMethodHandler | None:
        """The handler for an RPC.

        Context variables that are set here are seen by the handler.

        Args:
            continuation: gives the handler that comes next: of the next interceptor or, in the
                end, of the service.
            handler_call_details: the method and the metadata of the RPC.

        Returns:
            What `continuation` gave, or a handler instead of it; None if there is none.
        """


class ServerInvocation(Invocation):
    """An RPC as the interceptors of its server see it.

    Attributes:
        context: what the handler is given.
    """

    def __init__(
        self,
        context: ServicerContext[Any, Any],
        request: Any,
        streams_requests: bool,
        streams_replies: bool,
    ) -> None:
        super().__init__()
        self.context = context
        self.method = context.method()
        self.streams_requests = streams_requests
        self.streams_replies = streams_replies
        self.metadata = context.invocation_metadata()
        self.request = request
        self.code = None

    async def abort(self, code: StatusCode, details: str = "") -> NoReturn:
        """End the RPC with a status, and leave the interceptor by an exception."""
        self.code = code
        self.details = details
        await self.context.abort(code, details)

    @property
    def initial_metadata(self) -> Metadata:  # type: ignore[override]  # a view of the context
        return self.context.initial_metadata()

    @property
    def trailing_metadata(self) -> Metadata:  # type: ignore[override]  # a view of the context
        return self.context.trailing_metadata()

    def on_returned(self) -> None:
        """The handler has returned."""
        self.code = self.context.code()
        self.details = self.context.details()

    def on_raised(self, error: BaseException) -> None:
        """The handler has raised."""
        code, self.details = self.context.outcome_of(error)
        self.code = status_code(code)


def intercepted(
    behavior: Behavior,
    streams_requests: bool,
    streams_replies: bool,
    interceptors: Sequence[Interceptor],
) -> Behavior:
    """An asynchronous handler with interceptors of the own shape around it."""

    async def handle(call: Any) -> AsyncGenerator[Any, None]:
        context: ServicerContext[Any, Any] = call.context
        if streams_requests:
            context.requests = call.request
        try:
            result = behavior(call.request, context)
            if not streams_replies:
                reply = await result
                call.on_returned()
                yield reply
                return
            replies = result if hasattr(result, "__aiter__") else _written(result, context)
            try:
                async for reply in replies:
                    yield reply
            finally:
                aclose = getattr(replies, "aclose", None)
                if aclose is not None:
                    await aclose()
            call.on_returned()
        except GeneratorExit:
            raise
        except BaseException as error:
            call.on_raised(error)
            raise

    first = chain(interceptors, handle)

    async def reply(request: Any, context: ServicerContext[Any, Any]) -> Any:
        call = ServerInvocation(context, request, streams_requests, streams_replies)
        return await call.only_reply(first(call))

    async def replies(
        request: Any, context: ServicerContext[Any, Any]
    ) -> AsyncGenerator[Any, None]:
        call = ServerInvocation(context, request, streams_requests, streams_replies)
        try:
            async for reply in first(call):
                yield reply
        finally:
            await call.close()

    return replies if streams_replies else reply


async def _written(
    handler: Awaitable[None], context: ServicerContext[Any, Any]
) -> AsyncGenerator[Any, None]:
    """What a coroutine hands to ``context.write()``, as replies that can be iterated over."""
    written: asyncio.Queue[Any] = asyncio.Queue()
    end = object()

    async def write(message: Any) -> None:
        written.put_nowait(message)
        await written.join()

    async def run() -> None:
        try:
            await handler
        finally:
            written.put_nowait(end)

    context.writes = write
    task = asyncio.ensure_future(run())
    try:
        while (message := await written.get()) is not end:
            yield message
            written.task_done()
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def resolver(
    interceptors: Sequence[ServerInterceptor | Interceptor],
    last: Resolve,
    wrap: Callable[[RpcMethodHandler, Sequence[Interceptor]], RpcMethodHandler],
) -> Resolve:
    """What finds the handler of an RPC, by way of the interceptors.

    Args:
        last: finds it without them.
        wrap: puts an interceptor of the own shape around a handler.
    """
    resolve = last
    for interceptor in reversed(interceptors):
        if resolves(interceptor):
            grpcs: Any = interceptor
            resolve = partial(grpcs.intercept_service, resolve)
        else:
            resolve = _wrapped_by(interceptor, resolve, wrap)
    return resolve


def _wrapped_by(
    interceptor: Any,
    next: Resolve,
    wrap: Callable[[RpcMethodHandler, Sequence[Interceptor]], RpcMethodHandler],
) -> Resolve:
    async def resolve(details: HandlerCallDetails) -> RpcMethodHandler | None:
        handler = await next(details)
        return None if handler is None else wrap(handler, [interceptor])

    return resolve


def resolves(interceptor: object) -> bool:
    """True for an interceptor of ``grpc.aio``'s shape, also one written for grpcio itself."""
    if isinstance(interceptor, ServerInterceptor):
        return True
    method = getattr(interceptor, "intercept_service", None)
    return method is not None and is_async(method)  # those of the blocking API are not


def check(interceptor: object) -> None:
    """Refuse what is no server interceptor.

    Raises:
        ValueError: it is neither a `ServerInterceptor` nor a function of the own shape.
    """
    if not resolves(interceptor) and not callable(interceptor):
        raise ValueError(
            f"{interceptor!r} is no server interceptor: it has to be a ServerInterceptor, or an "
            "async generator function that takes the call and what comes next"
        )
