"""Handlers as gRPC's own generated code builds them: RpcMethodHandler and what collects them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from protosocket_rpc.metadata import MetadataLike
from protosocket_rpc.service.descriptor import (
    BYTES,
    Marshaller,
    MethodDescriptor,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)

Deserializer = Callable[[bytes], Any]
Serializer = Callable[[Any], bytes]
Behavior = Callable[..., Any]


class RpcMethodHandler(ABC):  # as in gRPC: any object with its attributes is one
    """How one method is served. Made by the ``*_rpc_method_handler`` functions.

    Attributes:
        request_streaming, response_streaming: which of the four kinds it is.
        request_deserializer: makes a request of bytes; None leaves it as bytes.
        response_serializer: makes bytes of a response; None if it is bytes.
        unary_unary, unary_stream, stream_unary, stream_stream: the function that is run; the one
            of the kind is set, the others are None.
    """

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Deserializer | None
    response_serializer: Serializer | None
    unary_unary: Behavior | None
    unary_stream: Behavior | None
    stream_unary: Behavior | None
    stream_stream: Behavior | None


class _MethodHandler(NamedTuple):
    """A tuple, as in gRPC: interceptors use ``_replace``."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Deserializer | None
    response_serializer: Serializer | None
    unary_unary: Behavior | None
    unary_stream: Behavior | None
    stream_unary: Behavior | None
    stream_stream: Behavior | None


RpcMethodHandler.register(_MethodHandler)


def _method_handler(
    descriptor: type[MethodDescriptor[Any, Any]],
    behavior: Behavior,
    request_deserializer: Deserializer | None,
    response_serializer: Serializer | None,
) -> Any:
    return _MethodHandler(
        descriptor.streams_requests,
        descriptor.streams_replies,
        request_deserializer,
        response_serializer,
        behavior if issubclass(descriptor, UnaryUnaryMethod) else None,
        behavior if issubclass(descriptor, UnaryStreamMethod) else None,
        behavior if issubclass(descriptor, StreamUnaryMethod) else None,
        behavior if issubclass(descriptor, StreamStreamMethod) else None,
    )


def unary_unary_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> RpcMethodHandler:
    """A handler of one request and one response.

    Args:
        behavior: ``(request, context) -> response``; a coroutine function, or a plain function,
            which is run in a thread.
        request_deserializer: makes a request of bytes; None leaves it as bytes.
        response_serializer: makes bytes of a response; None if it is bytes.
    """
    made: RpcMethodHandler = _method_handler(
        UnaryUnaryMethod, behavior, request_deserializer, response_serializer
    )
    return made


def unary_stream_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> RpcMethodHandler:
    """A handler of one request and a stream of responses.

    Args:
        behavior: ``(request, context)``; an async generator function, a coroutine function that
            calls ``context.write``, or a plain generator function, which is run in a thread.

    The other arguments are those of `unary_unary_rpc_method_handler`.
    """
    made: RpcMethodHandler = _method_handler(
        UnaryStreamMethod, behavior, request_deserializer, response_serializer
    )
    return made


def stream_unary_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> RpcMethodHandler:
    """A handler of a stream of requests and one response.

    Args:
        behavior: ``(request_iterator, context) -> response``, as for
            `unary_unary_rpc_method_handler`.
    """
    made: RpcMethodHandler = _method_handler(
        StreamUnaryMethod, behavior, request_deserializer, response_serializer
    )
    return made


def stream_stream_rpc_method_handler(
    behavior: Behavior,
    request_deserializer: Deserializer | None = None,
    response_serializer: Serializer | None = None,
) -> RpcMethodHandler:
    """A handler of a stream of requests and a stream of responses.

    Args:
        behavior: ``(request_iterator, context)``, as for `unary_stream_rpc_method_handler`.
    """
    made: RpcMethodHandler = _method_handler(
        StreamStreamMethod, behavior, request_deserializer, response_serializer
    )
    return made


class HandlerCallDetails(NamedTuple):
    """The RPC for which a handler is looked up."""

    method: str
    invocation_metadata: MetadataLike


class GenericRpcHandler(ABC):
    """Finds the handlers of any number of methods."""

    @abstractmethod
    def service(self, handler_call_details: HandlerCallDetails) -> RpcMethodHandler | None:
        """The handler of an RPC; None to leave it to others."""


class ServiceRpcHandler(GenericRpcHandler):
    """Finds the handlers of one service."""

    @abstractmethod
    def service_name(self) -> str:
        """The service's full name."""


class DictionaryGenericHandler(ServiceRpcHandler):
    """The handlers of one service, known beforehand.

    Attributes:
        handlers: by path.
    """

    def __init__(self, service: str, method_handlers: Mapping[str, RpcMethodHandler]) -> None:
        self._name = service
        self.handlers = {f"/{service}/{name}": each for name, each in method_handlers.items()}

    def service_name(self) -> str:
        return self._name

    def service(self, handler_call_details: HandlerCallDetails) -> RpcMethodHandler | None:
        return self.handlers.get(handler_call_details.method)


def method_handlers_generic_handler(
    service: str, method_handlers: Mapping[str, RpcMethodHandler]
) -> GenericRpcHandler:
    """What finds the handlers of one service.

    Args:
        service: its full name, ``package.Service``.
        method_handlers: by the methods' own names.
    """
    return DictionaryGenericHandler(service, method_handlers)


def describe(
    path: str, handler: RpcMethodHandler, like: MethodDescriptor[Any, Any] | None = None
) -> tuple[MethodDescriptor[Any, Any], Behavior]:
    """A method and the function that serves it, as a RpcMethodHandler (also grpcio's) has them.

    Args:
        like: the method that it takes the place of, for the limits of its messages.

    Raises:
        TypeError: the handler has no function for its kind.
    """
    kind: type[MethodDescriptor[Any, Any]]
    if handler.request_streaming:
        if handler.response_streaming:
            kind, behavior = StreamStreamMethod, handler.stream_stream
        else:
            kind, behavior = StreamUnaryMethod, handler.stream_unary
    elif handler.response_streaming:
        kind, behavior = UnaryStreamMethod, handler.unary_stream
    else:
        kind, behavior = UnaryUnaryMethod, handler.unary_unary
    if behavior is None:
        raise TypeError(f"the handler of {path} has no function for its kind of RPC")
    parse = handler.request_deserializer
    serialize = handler.response_serializer
    request = BYTES if parse is None else Marshaller(bytes, parse, "request")
    reply = BYTES if serialize is None else Marshaller(serialize, bytes, "response")
    if like is None:
        return kind(path, request, reply), behavior
    method = kind(
        path,
        request,
        reply,
        max_request_size=like.max_request_size,
        max_reply_size=like.max_reply_size,
    )
    return method, behavior


def handler_of(method: MethodDescriptor[Any, Any], behavior: Behavior) -> RpcMethodHandler:
    """The reverse of `describe`."""
    made: RpcMethodHandler = _method_handler(
        type(method), behavior, method.request.parse, method.reply.serialize
    )
    return made


def is_own(handler: RpcMethodHandler) -> bool:
    """True if it was made by the functions here, and not by grpcio's."""
    return isinstance(handler, _MethodHandler)
