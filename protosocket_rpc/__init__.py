"""RPC over protosocket: typed async stubs and servers, with gRPC's names and a faster wire."""

import logging

from protosocket_rpc.build import BuildInfo, build_info
from protosocket_rpc.errors import (
    AbortError,
    AioRpcError,
    BaseError,
    ConnectionClosed,
    DecodeError,
    FrameTooLarge,
    InternalError,
    OutputQueueFull,
    PeerRefused,
    ProtocolError,
    ProtosocketError,
    RemoteCancelled,
    RpcError,
    RpcFinished,
    UsageError,
)
from protosocket_rpc.metadata import Metadata, MetadataLike
from protosocket_rpc.service.call import StreamUnaryCall, UnaryUnaryCall
from protosocket_rpc.service.call_credentials import (
    AuthMetadataContext,
    AuthMetadataPlugin,
    AuthMetadataPluginCallback,
    CallCredentials,
    access_token_call_credentials,
    composite_call_credentials,
    metadata_call_credentials,
)
from protosocket_rpc.service.call_details import ClientCallDetails
from protosocket_rpc.service.channel import Channel, insecure_channel, secure_channel
from protosocket_rpc.service.client_interceptors import (
    ClientInterceptor,
    ClientInvocation,
    StreamStreamClientInterceptor,
    StreamUnaryClientInterceptor,
    UnaryStreamClientInterceptor,
    UnaryUnaryClientInterceptor,
)
from protosocket_rpc.service.compression import Compression
from protosocket_rpc.service.connectivity import (
    ChannelConnectivity,
    ClientConnectivity,
    ServerConnectivity,
)
from protosocket_rpc.service.context import EOF, ServicerContext, unimplemented
from protosocket_rpc.service.credentials import (
    ChannelCredentials,
    LocalConnectionType,
    ServerCertificateConfiguration,
    ServerCredentials,
    composite_channel_credentials,
    dynamic_ssl_server_credentials,
    insecure_channel_credentials,
    insecure_server_credentials,
    local_channel_credentials,
    local_server_credentials,
    ssl_channel_credentials,
    ssl_context_channel_credentials,
    ssl_context_server_credentials,
    ssl_server_certificate_configuration,
    ssl_server_credentials,
)
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
from protosocket_rpc.service.interceptors import Interceptor, Invocation, Next
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.method import CallOptions
from protosocket_rpc.service.metrics import ServerMetrics
from protosocket_rpc.service.requests import RequestIterator
from protosocket_rpc.service.rich_status import RichStatus, rich_status, status_details
from protosocket_rpc.service.rpc_handlers import (
    GenericRpcHandler,
    HandlerCallDetails,
    RpcMethodHandler,
    ServiceRpcHandler,
    method_handlers_generic_handler,
    stream_stream_rpc_method_handler,
    stream_unary_rpc_method_handler,
    unary_stream_rpc_method_handler,
    unary_unary_rpc_method_handler,
)
from protosocket_rpc.service.server import Server, server
from protosocket_rpc.service.server_interceptors import ServerInterceptor, ServerInvocation
from protosocket_rpc.service.serving import run
from protosocket_rpc.service.stream_call import StreamStreamCall, UnaryStreamCall
from protosocket_rpc.service.sync_handlers import SyncServicerContext
from protosocket_rpc.status import Status, StatusCode
from protosocket_rpc.workers import WorkerSettings, run_workers

logging.getLogger("protosocket_rpc").addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "BYTES",
    "EOF",
    "AbortError",
    "AioRpcError",
    "AuthMetadataContext",
    "AuthMetadataPlugin",
    "AuthMetadataPluginCallback",
    "BaseError",
    "BuildInfo",
    "CallCredentials",
    "CallOptions",
    "Channel",
    "ChannelConnectivity",
    "ChannelCredentials",
    "ClientCallDetails",
    "ClientConnectivity",
    "ClientInterceptor",
    "ClientInvocation",
    "Compression",
    "ConnectionClosed",
    "DecodeError",
    "FrameTooLarge",
    "GenericRpcHandler",
    "HandlerCallDetails",
    "Interceptor",
    "InternalError",
    "Invocation",
    "LocalConnectionType",
    "Marshaller",
    "Metadata",
    "MetadataLike",
    "MethodDescriptor",
    "Next",
    "OutputQueueFull",
    "PeerRefused",
    "ProtocolError",
    "ProtosocketError",
    "RemoteCancelled",
    "RequestIterator",
    "RichStatus",
    "RpcError",
    "RpcFinished",
    "RpcLimits",
    "RpcMethodHandler",
    "Server",
    "ServerCertificateConfiguration",
    "ServerConnectivity",
    "ServerCredentials",
    "ServerInterceptor",
    "ServerInvocation",
    "ServerMetrics",
    "ServiceDescriptor",
    "ServiceRpcHandler",
    "ServicerContext",
    "Status",
    "StatusCode",
    "StreamStreamCall",
    "StreamStreamClientInterceptor",
    "StreamStreamMethod",
    "StreamUnaryCall",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMethod",
    "SyncServicerContext",
    "UnaryStreamCall",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMethod",
    "UnaryUnaryCall",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMethod",
    "UsageError",
    "WorkerSettings",
    "access_token_call_credentials",
    "build_info",
    "composite_call_credentials",
    "composite_channel_credentials",
    "detached",
    "dynamic_ssl_server_credentials",
    "insecure_channel",
    "insecure_channel_credentials",
    "insecure_server_credentials",
    "local_channel_credentials",
    "local_server_credentials",
    "metadata_call_credentials",
    "method_handlers_generic_handler",
    "protobuf",
    "rich_status",
    "run",
    "run_workers",
    "secure_channel",
    "server",
    "ssl_channel_credentials",
    "ssl_context_channel_credentials",
    "ssl_context_server_credentials",
    "ssl_server_certificate_configuration",
    "ssl_server_credentials",
    "status_details",
    "stream_stream_rpc_method_handler",
    "stream_unary_rpc_method_handler",
    "unary_stream_rpc_method_handler",
    "unary_unary_rpc_method_handler",
    "unimplemented",
]
