"""One method as a server runs it.

Folded once, when it is added: what kind of RPC, how to parse and serialize, and which coroutine
runs the user's function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final

from protosocket_rpc.service.coroutines import serve_replies, serve_reply
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.parsing import limited
from protosocket_rpc.service.sync_handlers import in_thread, is_async

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext
    from protosocket_rpc.service.rpc_handlers import RpcMethodHandler

# Annotations of functions that do not, or need not, return a reply.
_NO_REPLY: Final = frozenset(("None", "NoneType", "NoReturn", "Never", "Any"))


class Handler:
    """One method as a server runs it."""

    __slots__ = (
        "behavior",
        "function",
        "label",
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
        # What metrics call it: a peer must not make up names for them.
        self.label: str = method.path
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
            serve_replies if method.streams_replies else serve_reply
        )


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
