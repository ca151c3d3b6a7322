"""From the path of a method to its handler, interceptors included. One per server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any

from protosocket_rpc.metadata import metadata_from_wire
from protosocket_rpc.service.coroutines import run_replies
from protosocket_rpc.service.current import CURRENT_RPC
from protosocket_rpc.service.descriptor import (
    BYTES,
    MethodDescriptor,
    ServiceDescriptor,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)
from protosocket_rpc.service.handler import Handler
from protosocket_rpc.service.handlers import service_handlers
from protosocket_rpc.service.interceptors import Interceptor
from protosocket_rpc.service.limits import MAX_METHOD_LENGTH
from protosocket_rpc.service.metrics import REFUSED
from protosocket_rpc.service.rpc_handlers import (
    DictionaryGenericHandler,
    GenericRpcHandler,
    HandlerCallDetails,
    RpcMethodHandler,
    describe,
    handler_of,
)
from protosocket_rpc.service.server_interceptors import (
    Resolve,
    ServerInterceptor,
    check,
    intercepted,
    resolver,
    resolves,
)
from protosocket_rpc.status import UNIMPLEMENTED
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext

Serve = Callable[["ServicerContext[Any, Any]", Any], Coroutine[Any, Any, None]]


class Routes:
    """The handlers of a server.

    Attributes:
        handlers: by path, ready to be served: what every RPC looks up first.
    """

    def __init__(
        self,
        interceptors: Sequence[ServerInterceptor | Interceptor],
        pool: Executor | None,
        compression: int,
    ) -> None:
        """No handlers yet.

        Args:
            pool: where plain functions are run; None for the event loop's own.
            compression: of replies; a value of Frame.compression.

        Raises:
            ValueError: an interceptor is none.
        """
        for interceptor in interceptors:
            check(interceptor)
        self.handlers: dict[str, Handler] = {}
        self._pool = pool
        self._compression = compression
        # Before interceptors, which may ask for any of them.
        self._plain: dict[str, Handler] = {}
        self._generic: list[GenericRpcHandler] = []
        self._interceptors = list(interceptors)
        self._resolve: Resolve | None = None
        if any(resolves(each) for each in interceptors):
            self._resolve = resolver(self._interceptors, self._resolve_plain, self._wrapped)

    # -- adding ----------------------------------------------------------------------------

    def add(self, servicer: object, service: ServiceDescriptor | None) -> None:
        """Add the methods of a servicer; see `Server.add`."""
        handlers = service_handlers(servicer, service, self._pool)
        for path in handlers:
            if path in self._plain:
                raise ValueError(f"{path} is served already")
        for path, handler in handlers.items():
            handler.rpc_handler = handler_of(handler.method, handler.function)
            self._add(path, handler)

    def add_generic(self, generic: GenericRpcHandler) -> None:
        """Add what finds handlers. The first that was added is asked first."""
        if isinstance(generic, DictionaryGenericHandler) and not self._generic:
            for path, handler in generic.handlers.items():
                if path not in self._plain:
                    self._add(path, self._fold(path, handler))
        else:
            self._generic.append(generic)

    def add_registered(self, service: str, handlers: Mapping[str, RpcMethodHandler]) -> None:
        """Add handlers of a service's methods, which come before generic ones."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            self._add(path, self._fold(path, handler))

    def _add(self, path: str, handler: Handler) -> None:
        self._plain[path] = handler
        self.handlers[path] = self._intercepted(handler)

    def _fold(
        self, path: str, handler: RpcMethodHandler, like: MethodDescriptor[Any, Any] | None = None
    ) -> Handler:
        folded = Handler(*describe(path, handler, like), self._pool)
        folded.rpc_handler = handler
        return folded

    # -- interceptors ----------------------------------------------------------------------

    def _intercepted(self, handler: Handler) -> Handler:
        if self._resolve is not None:
            handler = self._resolving(handler.method)
        elif self._interceptors:
            own: list[Any] = self._interceptors
            method = handler.method
            behavior = intercepted(
                handler.behavior, method.streams_requests, method.streams_replies, own
            )
            handler = Handler(method, behavior)
        if self._compression:
            handler.serve = partial(_serve_compressing, handler.serve, self._compression)
        return handler

    def _wrapped(
        self, handler: RpcMethodHandler, interceptors: Sequence[Interceptor]
    ) -> RpcMethodHandler:
        plain = self._fold("", handler)
        method = plain.method
        behavior = intercepted(
            plain.behavior, method.streams_requests, method.streams_replies, interceptors
        )
        return handler_of(method, behavior)

    def _resolving(self, method: MethodDescriptor[Any, Any]) -> Handler:
        """A handler that finds out how to handle an RPC when there is one."""
        method = type(method)(method.path, BYTES, BYTES, timeout=method.timeout)
        handler = Handler(method, _no_behavior)
        handler.serve = self._serve_resolved
        return handler

    async def _serve_resolved(self, context: ServicerContext[Any, Any], request: Any) -> None:
        CURRENT_RPC.set(context)
        assert self._resolve is not None
        try:
            path = context.opening.method
            # As HandlerCallDetails(...), which takes twice as long.
            details = tuple.__new__(HandlerCallDetails, (path, context.invocation_metadata()))
            resolved = await self._resolve(details)
            if resolved is None:
                context.fail(UNIMPLEMENTED, "Method not found!")
                return
            handler = self._plain.get(path)
            if handler is None:
                handler = self._fold(path, resolved)
            elif handler.rpc_handler is not resolved:
                handler = self._fold(path, resolved, handler.method)
            unary = context.handler.unary
            context.handler = handler
            if not (unary and handler.unary):
                await _run_as_resolved(context, request)
                return
            try:
                request = handler.parse(request)
            except Exception as error:  # what the message library raises is its own affair
                context.fail_unparsed(error)
                return
            context.finish_with(await handler.behavior(request, context))
        except BaseException as error:
            context.finish_raised(error)
        finally:
            context.on_handler_done()

    # -- finding ---------------------------------------------------------------------------

    async def _resolve_plain(self, details: HandlerCallDetails) -> RpcMethodHandler | None:
        """The handler of an RPC, as its interceptors see it."""
        plain = self._plain.get(details.method)
        if plain is not None:
            return plain.rpc_handler
        found = self._lookup(details)
        rpc: Any = CURRENT_RPC.get()
        if found is not None and rpc is not None:
            rpc.on_found(details.method)
        return found

    def _lookup(self, details: HandlerCallDetails) -> RpcMethodHandler | None:
        """What is found for a path that is none of those that were added."""
        for generic in self._generic:
            handler = generic.service(details)
            if handler is not None:
                return handler
        return None

    def find(self, frame: Frame) -> Handler | None:
        """The handler of an RPC whose path is none of `handlers`; None if there is none."""
        if len(frame.method) > MAX_METHOD_LENGTH:
            return None
        if self._resolve is not None:
            return _unlabelled(self._intercepted(Handler(_method_of(frame), _no_behavior)))
        if not self._generic:
            return None
        try:
            metadata = metadata_from_wire(frame.metadata)
            found = self._lookup(HandlerCallDetails(frame.method, metadata))
            return None if found is None else self._intercepted(self._fold(frame.method, found))
        except Exception as error:  # the user's; the RPC is to end with it
            return _unlabelled(Handler(_method_of(frame), partial(_raise, error)))


def _unlabelled(handler: Handler) -> Handler:
    """Nothing is known yet by the name that the client has for the method."""
    handler.label = REFUSED
    return handler


def _method_of(frame: Frame) -> MethodDescriptor[Any, Any]:
    """The kind of RPC that a client seems to think that it opens."""
    kind: type[MethodDescriptor[Any, Any]]
    if frame.body is None:
        kind = StreamStreamMethod if frame.credit else StreamUnaryMethod
    else:
        kind = UnaryStreamMethod if frame.credit else UnaryUnaryMethod
    return kind(frame.method, BYTES, BYTES)


async def _no_behavior(request: Any, context: ServicerContext[Any, Any]) -> None:
    raise AssertionError("not to be called: the handler is resolved first")


async def _raise(error: Exception, request: Any, context: ServicerContext[Any, Any]) -> None:
    raise error


async def _serve_compressing(
    serve: Serve, compression: int, context: ServicerContext[Any, Any], request: Any
) -> None:
    context.compression = compression
    await serve(context, request)


async def _run_as_resolved(context: ServicerContext[Any, Any], request: Any) -> None:
    """Run a handler for an RPC that may be of another kind than the handler is."""
    handler = context.handler
    if not context.streams_requests:
        try:
            request = handler.parse(request)
        except Exception as error:  # what the message library raises is its own affair
            context.fail_unparsed(error)
            return
        if handler.streams_requests:
            request = _one(request)
    elif not handler.streams_requests:
        request = await anext(request)
    if handler.streams_replies:
        if not context.streams_replies:
            raise TypeError(f"{context.method()} has one reply, but its handler streams them")
        await run_replies(context, request)
        return
    reply = await handler.behavior(request, context)
    if context.streams_replies:
        if not context.send_reply(reply):
            await context.wait_sendable()
        context.finish_stream()
    else:
        context.finish_with(reply)


async def _one(request: Any) -> AsyncIterator[Any]:
    yield request
