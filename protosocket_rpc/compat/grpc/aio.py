"""The names of ``grpc.aio``, over this package's own classes."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING

from protosocket_rpc.errors import AbortError, AioRpcError, BaseError, InternalError, UsageError
from protosocket_rpc.metadata import Metadata
from protosocket_rpc.service import call, intercepted, stream_call
from protosocket_rpc.service.call_details import ClientCallDetails
from protosocket_rpc.service.channel import Channel, insecure_channel, secure_channel
from protosocket_rpc.service.client_interceptors import (
    ClientInterceptor,
    StreamStreamClientInterceptor,
    StreamUnaryClientInterceptor,
    UnaryStreamClientInterceptor,
    UnaryUnaryClientInterceptor,
)
from protosocket_rpc.service.context import EOF, ServicerContext
from protosocket_rpc.service.intercepted import InterceptedUnaryUnaryCall
from protosocket_rpc.service.method import (
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from protosocket_rpc.service.server import Server, server
from protosocket_rpc.service.server_interceptors import ServerInterceptor

if TYPE_CHECKING:
    from protosocket_rpc.service.call import Call, StreamUnaryCall, UnaryUnaryCall
    from protosocket_rpc.service.call import Call as RpcContext
    from protosocket_rpc.service.stream_call import StreamStreamCall, UnaryStreamCall
else:

    class RpcContext(ABC):  # noqa: B024  # a name to ask isinstance() for, as are those below
        """A call, or the context of a handler."""

    class Call(RpcContext):
        """A call of any kind."""

    class UnaryUnaryCall(Call):
        """A call with one request and one reply, with or without interceptors."""

    class UnaryStreamCall(Call):
        """A call with one request and a stream of replies."""

    class StreamUnaryCall(Call):
        """A call with a stream of requests and one reply."""

    class StreamStreamCall(Call):
        """A call with a stream of requests and a stream of replies."""

    RpcContext.register(ServicerContext)
    for kind, implementations in {
        UnaryUnaryCall: (call.UnaryUnaryCall, InterceptedUnaryUnaryCall),
        UnaryStreamCall: (stream_call.UnaryStreamCall, intercepted.InterceptedUnaryStreamCall),
        StreamUnaryCall: (call.StreamUnaryCall, intercepted.InterceptedStreamUnaryCall),
        StreamStreamCall: (stream_call.StreamStreamCall, intercepted.InterceptedStreamStreamCall),
    }.items():
        for implementation in implementations:
            kind.register(implementation)
    Call.register(intercepted.SubstituteReply)
    Call.register(intercepted.SubstituteReplies)
    del kind, implementation, implementations

__all__ = [
    "EOF",
    "AbortError",
    "AioRpcError",
    "BaseError",
    "Call",
    "Channel",
    "ClientCallDetails",
    "ClientInterceptor",
    "InterceptedUnaryUnaryCall",
    "InternalError",
    "Metadata",
    "RpcContext",
    "Server",
    "ServerInterceptor",
    "ServicerContext",
    "StreamStreamCall",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryCall",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamCall",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryCall",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
    "UsageError",
    "init_grpc_aio",
    "insecure_channel",
    "secure_channel",
    "server",
    "shutdown_grpc_aio",
]


def init_grpc_aio() -> None:
    """Nothing: there is nothing global to be set up."""


def shutdown_grpc_aio() -> None:
    """Nothing: there is nothing global to be shut down."""
