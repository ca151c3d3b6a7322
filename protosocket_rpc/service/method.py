"""The methods of a channel, as callables: ``grpc.aio``'s multi-callables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from protosocket_rpc.metadata import MetadataLike, metadata_to_wire
from protosocket_rpc.service.call import (
    Call,
    RequestIterator,
    StreamUnaryCall,
    UnaryUnaryCall,
    caught,
)
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.stream_call import (
    ReplyStream,
    ReplyStreamRequests,
    StreamStreamCall,
    UnaryStreamCall,
)
from protosocket_rpc.status import INTERNAL, RESOURCE_EXHAUSTED
from protosocket_rpc.wire.frame import method_field

if TYPE_CHECKING:
    from protosocket_rpc.service.channel import Channel

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class CallOptions(TypedDict, total=False):
    """What every call of a stub takes beside its request.

    timeout: seconds until the deadline; None for none.
    metadata: pairs of keys and values to go with the request.
    wait_for_ready: wait for a connection, instead of failing at once when there is none to be had.
    """

    timeout: float | None
    metadata: MetadataLike | None
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class Method:
    """What all calls of one method have in common."""

    def __init__(self, channel: Channel, descriptor: MethodDescriptor[Any, Any]) -> None:
        self.channel = channel
        self.path: str = descriptor.path
        self.field: bytes = method_field(descriptor.path)
        self.timeout = descriptor.timeout
        self.serialize_request: Callable[[Any], bytes] = descriptor.request.serialize
        self.parse_reply: Callable[[bytes], Any] = descriptor.reply.parse
        limit = descriptor.max_request_size
        self.max_request_size: int | None = (
            channel.limits.max_send_message_size if limit is None else limit
        )

    def begin(self, call: Call, request: Any) -> None:
        """Start a call with one request."""
        try:
            body = self.serialize_request(request)
        except Exception as error:  # what the message library raises is its own affair
            call.fail(INTERNAL, "Exception serializing request!", caught(error))
            return
        limit = self.max_request_size
        if limit is not None and len(body) > limit:
            call.fail(
                RESOURCE_EXHAUSTED,
                f"Sent message larger than max ({len(body)} vs. {limit})",
                None,
            )
            return
        call.body = body
        call.start()


# The four have no base in common: a class that a compiled one derives its __call__ from crashes
# mypyc's build. What they share is Method.


class UnaryUnaryMultiCallable(Generic[Request, Reply]):
    """Calls a method with one request and one reply."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> UnaryUnaryCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments."""
        method = self._method
        call: UnaryUnaryCall[Request, Reply] = UnaryUnaryCall(
            method,
            method.channel.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else metadata_to_wire(metadata),
            wait_for_ready,
        )
        method.begin(call, request)
        return call


class UnaryStreamMultiCallable(Generic[Request, Reply]):
    """Calls a method with one request and a stream of replies."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> UnaryStreamCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments."""
        method = self._method
        rpc = ReplyStream(
            method,
            method.channel.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else metadata_to_wire(metadata),
            wait_for_ready,
        )
        call: UnaryStreamCall[Request, Reply] = UnaryStreamCall(rpc)
        method.begin(rpc, request)
        return call


class StreamUnaryMultiCallable(Generic[Request, Reply]):
    """Calls a method with a stream of requests and one reply."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(
        self,
        request_iterator: RequestIterator[Request] | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> StreamUnaryCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments.

        Args:
            request_iterator: the requests; None to `write()` them.
        """
        method = self._method
        call: StreamUnaryCall[Request, Reply] = StreamUnaryCall(
            method,
            method.channel.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else metadata_to_wire(metadata),
            wait_for_ready,
        )
        call.start()
        call.send_requests(request_iterator)
        return call


class StreamStreamMultiCallable(Generic[Request, Reply]):
    """Calls a method with a stream of requests and a stream of replies."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __call__(
        self,
        request_iterator: RequestIterator[Request] | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> StreamStreamCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments.

        Args:
            request_iterator: the requests; None to `write()` them.
        """
        method = self._method
        rpc = ReplyStreamRequests(
            method,
            method.channel.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else metadata_to_wire(metadata),
            wait_for_ready,
        )
        call: StreamStreamCall[Request, Reply] = StreamStreamCall(rpc)
        rpc.start()
        rpc.send_requests(request_iterator)
        return call
