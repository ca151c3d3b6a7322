"""The names of ``grpc.experimental``."""

from __future__ import annotations

from protosocket_rpc.compat.grpc import aio
from protosocket_rpc.compat.grpc.missing import function
from protosocket_rpc.service.credentials import insecure_channel_credentials

__all__ = [
    "aio",
    "insecure_channel_credentials",
    "stream_stream",
    "stream_unary",
    "unary_stream",
    "unary_unary",
]

# What the static methods of generated classes call: ``Greeter.SayHello(request, target)``.
_WHY = "belongs to the blocking API: make a grpc.aio channel, and a stub for it"
unary_unary = function("experimental.unary_unary", _WHY)
unary_stream = function("experimental.unary_stream", _WHY)
stream_unary = function("experimental.stream_unary", _WHY)
stream_stream = function("experimental.stream_stream", _WHY)
