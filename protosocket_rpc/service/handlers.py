"""From a servicer's methods to the coroutines that serve one RPC each.

A handler is folded once, when it is added: what kind of RPC, how to parse and serialize, and
which coroutine runs the user's function.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from protosocket_rpc.service.current import CURRENT_RPC
from protosocket_rpc.service.descriptor import MethodDescriptor, ServiceDescriptor
from protosocket_rpc.service.parsing import limited
from protosocket_rpc.service.sync_handlers import in_thread, is_async

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext
    from protosocket_rpc.service.rpc_handlers import RpcMethodHandler

# A stream of replies that never waits gives way to others after this many.
_REPLIES_PER_TURN = 64

# Annotations of functions that do not, or need not, return a reply.
_NO_REPLY = frozenset(("None", "NoneType", "NoReturn", "Never", "Any"))


class Handler:
    """One method as a server runs it."""

    __slots__ = (
        "behavior",
        "function",
        "max_reply_size",
        "method",
        "parse",
        "rpc_handler",
        "serialize",
        "serve",
        "streams_replies",
        "streams_requests",
        "timeout_us",
        "unary",
    )

    def __init__(
        self,
        method: MethodDescriptor[Any, Any],
        behavior: Callable[..., Any],
        pool: Executor | None = None,
    ) -> None:
        """Fold a method.

        Args:
            behavior: the user's function.
            pool: where it is run if it is a plain function; None for the event loop's own.

        Raises:
            TypeError: the function cannot serve this kind of method.
        """
        check_kind(method, behavior)
        self.function = behavior
        # As gRPC's interceptors see it.
        self.rpc_handler: RpcMethodHandler | None = None
        if not is_async(behavior):
            behavior = in_thread(behavior, method.streams_requests, method.streams_replies, pool)
        self.method = method
        self.behavior = behavior
        self.streams_requests: bool = method.streams_requests
        self.streams_replies: bool = method.streams_replies
        self.unary: bool = not (method.streams_requests or method.streams_replies)
        self.parse: Callable[[bytes], Any] = limited(
            method.request.parse, method.max_request_size, "server", "max_request_size"
        )
        self.serialize: Callable[[Any], bytes] = method.reply.serialize
        self.max_reply_size = method.max_reply_size
        # For callers that name no timeout; 0 is none.
        self.timeout_us: int = 0 if method.timeout is None else max(int(method.timeout * 1e6), 1)
        self.serve: Callable[[ServicerContext[Any, Any], Any], Coroutine[Any, Any, None]] = (
            _serve_replies if method.streams_replies else _serve_reply
        )


async def _serve_reply(context: ServicerContext[Any, Any], request: Any) -> None:
    CURRENT_RPC.set(context)
    try:
        context.finish_with(await context.handler.behavior(request, context))
    except BaseException as error:
        context.finish_raised(error)
    finally:
        context.on_handler_done()


async def _serve_replies(context: ServicerContext[Any, Any], request: Any) -> None:
    CURRENT_RPC.set(context)
    try:
        await run_replies(context, request)
    except BaseException as error:
        context.finish_raised(error)
    finally:
        context.on_handler_done()


async def run_replies(context: ServicerContext[Any, Any], request: Any) -> None:
    """Run the handler of an RPC with a reply stream, to its end."""
    replies = context.handler.behavior(request, context)
    if hasattr(replies, "__aiter__"):
        await _send_replies(context, replies)
    else:
        await _await_writes(context, replies)
    context.finish_stream()


async def _send_replies(context: ServicerContext[Any, Any], replies: AsyncIterator[Any]) -> None:
    turn = _REPLIES_PER_TURN
    try:
        async for reply in replies:
            if not context.send_reply(reply):
                await context.wait_sendable()
                turn = _REPLIES_PER_TURN
            else:
                turn -= 1
                if not turn:
                    turn = _REPLIES_PER_TURN
                    await _give_way()
    finally:
        close = getattr(replies, "aclose", None)
        if close is not None:
            await close()


async def _await_writes(context: ServicerContext[Any, Any], writes: Awaitable[Any]) -> None:
    """A coroutine function's way to stream replies: with `context.write()`."""
    result = await writes
    if result is not None:
        raise TypeError(
            f"{context.method()} streams its replies: yield them, or context.write() them, "
            f"but do not return {type(result).__name__}"
        )
    await context.wait_sendable()  # if a writer was cancelled, its message may be on its way


class _GiveWay:
    """Awaiting it lets the loop run everything else that is ready."""

    __slots__ = ()

    def __await__(self) -> Any:
        yield


async def _give_way() -> None:
    await _GiveWay()


def service_handlers(
    servicer: object,
    service: ServiceDescriptor | None = None,
    pool: Executor | None = None,
) -> dict[str, Handler]:
    """The handlers of a servicer's methods, by path.

    Args:
        servicer: an object with a method for each method of the service.
        service: what it serves; None to take it from the generated bases of its class.
        pool: where plain functions are run.

    Raises:
        TypeError: the servicer names no service, lacks a method, or has one of the wrong kind.
    """
    services = [service] if service is not None else _services_of(servicer)
    handlers: dict[str, Handler] = {}
    for each in services:
        for method in each.methods:
            behavior = getattr(servicer, method.handler, None)
            if behavior is None:
                raise TypeError(
                    f"{type(servicer).__name__} has no method {method.handler} for {method.path}"
                )
            handlers[method.path] = Handler(method, behavior, pool)
    return handlers


def _services_of(servicer: object) -> list[ServiceDescriptor]:
    services: dict[str, ServiceDescriptor] = {}
    for base in type(servicer).__mro__:
        service = base.__dict__.get("__protosocket_service__")
        if service is not None:
            services[service.name] = service
    if not services:
        raise TypeError(
            f"{type(servicer).__name__} is derived from no generated servicer: "
            "derive from one, or name the service: server.add(servicer, SERVICE)"
        )
    return list(services.values())


def check_kind(method: MethodDescriptor[Any, Any], behavior: Callable[..., Any]) -> None:
    """Refuse a function that cannot be the handler of this kind of method.

    Raises:
        TypeError: with the method's name, what it is, and what it has to be.
    """
    name = getattr(behavior, "__qualname__", repr(behavior))
    if not method.streams_replies and (
        inspect.isasyncgenfunction(behavior) or inspect.isgeneratorfunction(behavior)
    ):
        raise TypeError(
            f"{name} is a generator, but {method.path} has one reply: "
            "make it a function with `return` for the reply"
        )
    if method.streams_replies and inspect.iscoroutinefunction(behavior) and not _writes(behavior):
        raise TypeError(
            f"{name} is a coroutine function, but {method.path} streams its replies: "
            "make it an async generator, with `yield` for each reply"
        )


def _writes(behavior: Callable[..., Any]) -> bool:
    """True for a coroutine function that may context.write() its replies, as grpc.aio's do.

    It says that it returns nothing; or says nothing, and mentions `write`.
    """
    annotations = getattr(behavior, "__annotations__", {})
    if "return" in annotations:
        returned = annotations["return"]
        returned = str(getattr(returned, "__name__", returned))
        return returned.rpartition(".")[2] in _NO_REPLY
    code = getattr(inspect.unwrap(behavior), "__code__", None)
    return code is None or "write" in code.co_names
