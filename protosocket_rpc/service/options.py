"""gRPC's ``(name, value)`` options, and what they are here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from protosocket_rpc.service.connectivity import ClientConnectivity, ServerConnectivity
from protosocket_rpc.service.limits import RpcLimits

_UNLIMITED = 1 << 40
_NEVER = (1 << 31) - 1


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


def target_name_of(options: Iterable[tuple[str, Any]] | None) -> str | None:
    """The name to expect in the server's certificate, if gRPC's options have one."""
    for name, value in options or ():
        if name == "grpc.ssl_target_name_override":
            return str(value)
    return None


def reuse_port_of(options: Iterable[tuple[str, Any]] | None, reuse_port: bool = False) -> bool:
    """Whether to share ports with other processes, as gRPC's options may say."""
    for name, value in options or ():
        if name == "grpc.so_reuseport":
            reuse_port = bool(value)
    return reuse_port


def connectivity_of(
    options: Iterable[tuple[str, Any]] | None, connectivity: ClientConnectivity | None = None
) -> ClientConnectivity:
    """What gRPC's options of a channel ask for, on top of `connectivity`."""
    result = connectivity or ClientConnectivity()
    for name, value in options or ():
        if name == "grpc.lb_policy_name":
            result = replace(result, balance=value != "pick_first")
        elif name in _CLIENT_TIMES:
            times: dict[str, Any] = {_CLIENT_TIMES[name]: _seconds(value)}
            result = replace(result, **times)
    return result


_CLIENT_TIMES = {
    "grpc.initial_reconnect_backoff_ms": "first_backoff",
    "grpc.max_reconnect_backoff_ms": "longest_backoff",
    "grpc.keepalive_time_ms": "keepalive_interval",
    "grpc.keepalive_timeout_ms": "keepalive_timeout",
}


def server_connectivity_of(
    options: Iterable[tuple[str, Any]] | None, connectivity: ServerConnectivity | None = None
) -> ServerConnectivity:
    """What gRPC's options of a server ask for, on top of `connectivity`."""
    result = connectivity or ServerConnectivity()
    for name, value in options or ():
        if name in _SERVER_TIMES:
            times: dict[str, Any] = {_SERVER_TIMES[name]: _seconds(value)}
            result = replace(result, **times)
    return result


_SERVER_TIMES = {
    "grpc.max_connection_age_ms": "max_age",
    "grpc.max_connection_age_grace_ms": "max_age_grace",
    "grpc.max_connection_idle_ms": "max_idle",
    "grpc.keepalive_time_ms": "keepalive_interval",
    "grpc.keepalive_timeout_ms": "keepalive_timeout",
}


def _seconds(milliseconds: int) -> float:
    """gRPC's time in seconds; its INT_MAX stands for never."""
    return math.inf if milliseconds >= _NEVER else max(milliseconds, 1) / 1000
