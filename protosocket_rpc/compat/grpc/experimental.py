"""The names of ``grpc.experimental`` that are not of the blocking API."""

from __future__ import annotations

from typing import Any

from protosocket_rpc.compat.grpc import aio
from protosocket_rpc.service.credentials import insecure_channel_credentials

__all__ = ["aio", "insecure_channel_credentials"]

_BLOCKING = {"stream_stream", "stream_unary", "unary_stream", "unary_unary"}


def __getattr__(name: str) -> Any:
    if name in _BLOCKING:
        raise AttributeError(
            f"grpc.experimental.{name} belongs to gRPC's blocking API; make a grpc.aio channel"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
