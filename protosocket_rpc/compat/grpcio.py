"""The real grpcio, for what serves or calls by gRPC too. It is the extra ``grpc``."""

from __future__ import annotations

from protosocket_rpc.service import client_interceptors as own
from protosocket_rpc.service.server_interceptors import ServerInterceptor

try:
    import grpc
    from grpc import aio
except ImportError as error:
    raise ImportError(
        "gRPC needs the extra: pip install 'protosocket-rpc[grpc]'", name="grpc"
    ) from error
if grpc.__name__ != "grpc":
    raise ImportError(
        "compat.grpc.install() has put another module in the place of grpc: this process has no "
        "gRPC",
        name="grpc",
    )

__all__ = ["aio", "grpc"]

# Interceptors written for this package are taken by grpcio too, as grpcio's are here.
aio.ServerInterceptor.register(ServerInterceptor)
aio.UnaryUnaryClientInterceptor.register(own.UnaryUnaryClientInterceptor)
aio.UnaryStreamClientInterceptor.register(own.UnaryStreamClientInterceptor)
aio.StreamUnaryClientInterceptor.register(own.StreamUnaryClientInterceptor)
aio.StreamStreamClientInterceptor.register(own.StreamStreamClientInterceptor)
