"""The real grpcio, for what serves or calls by gRPC too. It is the extra ``grpc``."""

from __future__ import annotations

import asyncio
from typing import Any

from protosocket_rpc.errors import UsageError
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

__all__ = ["aio", "check_loop", "grpc"]

# Interceptors written for this package are taken by grpcio too, as grpcio's are here.
aio.ServerInterceptor.register(ServerInterceptor)
aio.UnaryUnaryClientInterceptor.register(own.UnaryUnaryClientInterceptor)
aio.UnaryStreamClientInterceptor.register(own.UnaryStreamClientInterceptor)
aio.StreamUnaryClientInterceptor.register(own.StreamUnaryClientInterceptor)
aio.StreamStreamClientInterceptor.register(own.StreamStreamClientInterceptor)


def check_loop(made: Any, remedy: str) -> None:
    """Refuse what grpcio would hang on, or fail somewhere inside.

    Args:
        made: a channel or a server of ``grpc.aio``: bound to the event loop in which it was made.
        remedy: what to do instead.

    Raises:
        UsageError: that is not the running one.
    """
    loop = getattr(made, "_loop", None)
    if loop is not None and loop is not asyncio.get_running_loop():
        kind = type(made).__name__.lower()
        raise UsageError(f"the grpc.aio {kind} was made in another event loop: {remedy}")
