"""gRPC's ``(name, value)`` options, and what they are here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from protosocket_rpc.service.limits import RpcLimits

_UNLIMITED = 1 << 40


def limits_of(
    options: Iterable[tuple[str, Any]] | None, limits: RpcLimits | None = None
) -> RpcLimits:
    """The limits that gRPC's options ask for, on top of `limits`. Other options are accepted."""
    result = limits or RpcLimits()
    for name, value in options or ():
        if name == "grpc.max_receive_message_length":
            size = _UNLIMITED if value < 0 else value
            result = replace(result, max_receive_message_size=size)
        elif name == "grpc.max_send_message_length":
            result = replace(result, max_send_message_size=None if value < 0 else value)
        elif name == "grpc.max_metadata_size":
            result = replace(result, max_metadata_size=value)
    return result
