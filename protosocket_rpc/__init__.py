"""RPC over protosocket: typed async stubs and servers, with gRPC's names and a faster wire."""

import logging

from protosocket_rpc.errors import (
    AbortError,
    AioRpcError,
    ConnectionClosed,
    DecodeError,
    FrameTooLarge,
    InternalError,
    OutputQueueFull,
    ProtocolError,
    ProtosocketError,
    RemoteCancelled,
    RpcError,
    RpcFinished,
    UsageError,
)
from protosocket_rpc.metadata import Metadata, MetadataLike
from protosocket_rpc.service.call import StreamUnaryCall, UnaryUnaryCall
from protosocket_rpc.service.channel import Channel, insecure_channel, secure_channel
from protosocket_rpc.service.connectivity import (
    ChannelConnectivity,
    ClientConnectivity,
    ServerConnectivity,
)
from protosocket_rpc.service.context import EOF, ServicerContext, unimplemented
from protosocket_rpc.service.current import detached
from protosocket_rpc.service.descriptor import (
    BYTES,
    Marshaller,
    MethodDescriptor,
    ServiceDescriptor,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
    protobuf,
)
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.method import CallOptions
from protosocket_rpc.service.server import Server, server
from protosocket_rpc.service.stream_call import StreamStreamCall, UnaryStreamCall
from protosocket_rpc.status import StatusCode

logging.getLogger("protosocket_rpc").addHandler(logging.NullHandler())

__all__ = [
    "BYTES",
    "EOF",
    "AbortError",
    "AioRpcError",
    "CallOptions",
    "Channel",
    "ChannelConnectivity",
    "ClientConnectivity",
    "ConnectionClosed",
    "DecodeError",
    "FrameTooLarge",
    "InternalError",
    "Marshaller",
    "Metadata",
    "MetadataLike",
    "MethodDescriptor",
    "OutputQueueFull",
    "ProtocolError",
    "ProtosocketError",
    "RemoteCancelled",
    "RpcError",
    "RpcFinished",
    "RpcLimits",
    "Server",
    "ServerConnectivity",
    "ServiceDescriptor",
    "ServicerContext",
    "StatusCode",
    "StreamStreamCall",
    "StreamStreamMethod",
    "StreamUnaryCall",
    "StreamUnaryMethod",
    "UnaryStreamCall",
    "UnaryStreamMethod",
    "UnaryUnaryCall",
    "UnaryUnaryMethod",
    "UsageError",
    "detached",
    "insecure_channel",
    "protobuf",
    "secure_channel",
    "server",
    "unimplemented",
]
