"""The methods of a channel, as callables: ``grpc.aio``'s multi-callables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar

from protosocket_rpc.metadata import MetadataLike
from protosocket_rpc.service.call import (
    Call,
    StreamUnaryCall,
    UnaryUnaryCall,
    caught,
)
from protosocket_rpc.service.call_credentials import (
    INSECURE,
    AuthMetadataContext,
    CallCredentials,
)
from protosocket_rpc.service.compression import Compression, wire_compression
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.limits import too_large
from protosocket_rpc.service.parsing import limited
from protosocket_rpc.service.reply_stream import ReplyStream, ReplyStreamRequests
from protosocket_rpc.service.requests import RequestIterator
from protosocket_rpc.service.stream_call import StreamStreamCall, UnaryStreamCall
from protosocket_rpc.status import INTERNAL, RESOURCE_EXHAUSTED, UNAUTHENTICATED
from protosocket_rpc.wire.frame import method_field
from protosocket_rpc.wire.metadata import encode_metadata

if TYPE_CHECKING:
    from protosocket_rpc.service.channel import Channel
    from protosocket_rpc.service.connector import Connector

Request = TypeVar("Request")
Reply = TypeVar("Reply")

# Looked up once: every call asks. None if no loop is running.
_running_loop: Final = asyncio._get_running_loop


class CallOptions(TypedDict, total=False):
    """What every call of a stub takes beside its request.

    timeout: seconds until the deadline; None for none.
    metadata: pairs of keys and values to go with the request.
    credentials: what goes with the call beside its metadata; on secure channels only.
    wait_for_ready: wait for a connection, instead of failing at once when there is none to be had.
    compression: of requests, for a server that understands it; None is what the channel does.
    """

    timeout: float | None
    metadata: MetadataLike | None
    credentials: CallCredentials | None
    wait_for_ready: bool | None
    compression: Compression | None


class Method:
    """What all calls of one method have in common."""

    def __init__(self, channel: Channel, descriptor: MethodDescriptor[Any, Any]) -> None:
        self.channel = channel
        self._connectors = channel.connectors
        self.path: str = descriptor.path
        # No path at all would open no RPC; this one is as unknown to every server.
        self.field: bytes = method_field(descriptor.path or "/")
        self.timeout = descriptor.timeout
        self.serialize_request: Callable[[Any], bytes] = descriptor.request.serialize
        self.parse_reply: Callable[[bytes], Any] = limited(
            descriptor.reply.parse, descriptor.max_reply_size, "client", "max_reply_size"
        )
        limit = descriptor.max_request_size
        self._size_setting = "max_send_message_size" if limit is None else "max_request_size"
        self.max_request_size: int | None = (
            channel.limits.max_send_message_size if limit is None else limit
        )
        self._compression = channel.compression
        service, _, name = descriptor.path.lstrip("/").partition("/")
        self._auth_context = AuthMetadataContext(f"https://{channel.audience}/{service}", name)
        # Calls have nothing to take from the channel, unless they say so themselves.
        self.plain: bool = not self._compression and channel.credentials.call is None

    def connector(self) -> Connector:
        """Where calls get their connection from, on the running loop; see `PerLoop.get`."""
        connectors = self._connectors
        latest = connectors.latest
        if latest is None or latest.loop is not _running_loop():
            return connectors.get()
        return latest

    def take_request(self, call: Call, request: Any) -> bool:
        """Give a call its one request. False: that does not go, and the call has failed."""
        try:
            body = self.serialize_request(request)
        except Exception as error:  # what the message library raises is its own affair
            call.fail(INTERNAL, "Exception serializing request!", caught(error))
            return False
        limit = self.max_request_size
        if limit is not None and len(body) > limit:
            call.fail(RESOURCE_EXHAUSTED, self.too_large(len(body)), None)
            return False
        call.body = body
        return True

    def too_large(self, size: int) -> str:
        """What a status says of a request of `size` bytes, which is above the limit."""
        limit = self.max_request_size
        assert limit is not None
        return too_large("Sent message", size, limit, "client", self._size_setting)

    def start_configured(
        self, call: Call, credentials: CallCredentials | None, compression: Compression | None
    ) -> None:
        """Start a call that asks for more than the ordinary, or whose channel does."""
        call.plain = False
        if compression is None:
            call.compression = self._compression
        else:
            call.compression = wire_compression(compression)
        channel = self.channel
        if channel.credentials.call is not None:
            ours = channel.credentials.call
            credentials = ours if credentials is None else ours.joined([credentials])
        if credentials is None:
            call.start()
        elif not (channel.credentials.secure or channel.allow_insecure_call_credentials):
            call.fail(UNAUTHENTICATED, INSECURE, None)
        elif credentials.fixed is not None:
            call.add_metadata(credentials.fixed)
            call.start()
        else:
            call.start_authenticated(credentials, self._auth_context)


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
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> UnaryUnaryCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments."""
        method = self._method
        call: UnaryUnaryCall[Request, Reply] = UnaryUnaryCall(
            method,
            method.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else encode_metadata(metadata),
            wait_for_ready,
        )
        if method.take_request(call, request):
            if credentials is None and compression is None and method.plain:
                call.start()
            else:
                method.start_configured(call, credentials, compression)
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
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> UnaryStreamCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments."""
        method = self._method
        rpc = ReplyStream(
            method,
            method.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else encode_metadata(metadata),
            wait_for_ready,
        )
        call: UnaryStreamCall[Request, Reply] = UnaryStreamCall(rpc)
        if method.take_request(rpc, request):
            if credentials is None and compression is None and method.plain:
                rpc.start()
            else:
                method.start_configured(rpc, credentials, compression)
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
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> StreamUnaryCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments.

        Args:
            request_iterator: the requests; None to `write()` them.
        """
        method = self._method
        call: StreamUnaryCall[Request, Reply] = StreamUnaryCall(
            method,
            method.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else encode_metadata(metadata),
            wait_for_ready,
        )
        if credentials is None and compression is None and method.plain:
            call.start()
        else:
            method.start_configured(call, credentials, compression)
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
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> StreamStreamCall[Request, Reply]:
        """Start a call; `CallOptions` describes the arguments.

        Args:
            request_iterator: the requests; None to `write()` them.
        """
        method = self._method
        rpc = ReplyStreamRequests(
            method,
            method.connector(),
            method.timeout if timeout is None else timeout,
            None if metadata is None else encode_metadata(metadata),
            wait_for_ready,
        )
        call: StreamStreamCall[Request, Reply] = StreamStreamCall(rpc)
        if credentials is None and compression is None and method.plain:
            rpc.start()
        else:
            method.start_configured(rpc, credentials, compression)
        rpc.send_requests(request_iterator)
        return call
