"""The names of ``grpc`` and ``grpc.aio``, over this package's own classes.

A program that is written for ``grpc.aio`` runs once its import is changed::

    from protosocket_rpc.compat import grpc   # was: import grpc

What ``grpcio-tools`` generates (``_pb2_grpc.py``) runs with the same change. Where imports cannot
be changed, `install` puts this module in the place of ``grpc``. docs/migrating.md lists every
difference.
"""

from __future__ import annotations

import sys

from protosocket_rpc.compat.grpc import aio, experimental, missing
from protosocket_rpc.compat.grpc.aio import Call, ClientCallDetails, RpcContext
from protosocket_rpc.errors import RpcError
from protosocket_rpc.service.call_credentials import (
    AuthMetadataContext,
    AuthMetadataPlugin,
    AuthMetadataPluginCallback,
    CallCredentials,
    access_token_call_credentials,
    composite_call_credentials,
    metadata_call_credentials,
)
from protosocket_rpc.service.channel import Channel
from protosocket_rpc.service.compression import Compression
from protosocket_rpc.service.connectivity import ChannelConnectivity
from protosocket_rpc.service.credentials import (
    ChannelCredentials,
    LocalConnectionType,
    ServerCertificateConfiguration,
    ServerCredentials,
    composite_channel_credentials,
    dynamic_ssl_server_credentials,
    insecure_server_credentials,
    local_channel_credentials,
    local_server_credentials,
    ssl_channel_credentials,
    ssl_server_certificate_configuration,
    ssl_server_credentials,
)
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
from protosocket_rpc.service.server import Server
from protosocket_rpc.service.sync_handlers import SyncServicerContext as ServicerContext
from protosocket_rpc.status import Status, StatusCode

# Of the grpcio whose surface this is.
__version__ = "1.85.1"

__all__ = [
    "AuthMetadataContext",
    "AuthMetadataPlugin",
    "AuthMetadataPluginCallback",
    "Call",
    "CallCredentials",
    "Channel",
    "ChannelConnectivity",
    "ChannelCredentials",
    "ClientCallDetails",
    "Compression",
    "GenericRpcHandler",
    "HandlerCallDetails",
    "LocalConnectionType",
    "RpcContext",
    "RpcError",
    "RpcMethodHandler",
    "Server",
    "ServerCertificateConfiguration",
    "ServerCredentials",
    "ServiceRpcHandler",
    "ServicerContext",
    "Status",
    "StatusCode",
    "access_token_call_credentials",
    "aio",
    "composite_call_credentials",
    "composite_channel_credentials",
    "dynamic_ssl_server_credentials",
    "experimental",
    "insecure_server_credentials",
    "install",
    "local_channel_credentials",
    "local_server_credentials",
    "metadata_call_credentials",
    "method_handlers_generic_handler",
    "ssl_channel_credentials",
    "ssl_server_certificate_configuration",
    "ssl_server_credentials",
    "stream_stream_rpc_method_handler",
    "stream_unary_rpc_method_handler",
    "unary_stream_rpc_method_handler",
    "unary_unary_rpc_method_handler",
]

# What of grpc leads nowhere here. With a type checker it is not there at all.
globals().update(missing.names())
__all__ += missing.names()


def install() -> None:
    """Have ``import grpc`` give this module, in the whole process, from now on.

    So it is with ``grpc.aio``, ``grpc.experimental`` and ``grpc_status``.

    For programs whose imports cannot be changed. Call it before anything imports ``grpc``.

    Raises:
        RuntimeError: grpcio was imported already; some modules would go on with that.
    """
    present = sys.modules.get("grpc")
    ours = sys.modules[__name__]
    if present is not None and present is not ours:
        raise RuntimeError(
            "grpcio was imported already: call protosocket_rpc.compat.grpc.install() before "
            "anything imports grpc"
        )
    from protosocket_rpc.compat import grpc_status
    from protosocket_rpc.compat.grpc import _utilities

    sys.modules["grpc"] = ours
    sys.modules["grpc.aio"] = aio
    sys.modules["grpc.experimental"] = experimental
    sys.modules["grpc.experimental.aio"] = aio
    sys.modules["grpc._utilities"] = _utilities
    sys.modules["grpc_status"] = grpc_status
    sys.modules["grpc_status.rpc_status"] = grpc_status.rpc_status
