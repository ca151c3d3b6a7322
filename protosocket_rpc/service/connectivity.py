"""The state of a channel, and how it finds, makes and keeps its connections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ChannelConnectivity(Enum):
    """The state of a channel, as in gRPC."""

    IDLE = (0, "idle")
    CONNECTING = (1, "connecting")
    READY = (2, "ready")
    TRANSIENT_FAILURE = (3, "transient failure")
    SHUTDOWN = (4, "shutdown")


@dataclass(frozen=True)
class ClientConnectivity:
    """How a channel finds, makes and keeps connections. Times in seconds.

    Args:
        balance: use all addresses that the target stands for, in turn. False: the first one that
            answers.
        connect_timeout: what one attempt to connect may take.
        first_backoff: the pause after a first failed attempt; each further one is 1.6 times as
            long. Every pause is up to 20 % longer or shorter, by chance.
        longest_backoff: no pause is longer.
        resolve_interval: how often a name is looked up again while there are connections; None
            for only when a connection is lost or an attempt fails.
        keepalive_interval: a server that has not been heard of for so long is asked for a sign of
            life; None to ask never. Servers that do not know of it are not asked.
        keepalive_timeout: the time that it has to give one; then its connection is lost.
        busy_poll: poll instead of sleeping while a call with one reply is in flight, and for so
            many seconds after each traffic, such as 0.0002: a shorter latency, for a core that is
            never idle meanwhile. None for not at all.
    """

    balance: bool = True
    connect_timeout: float = 20.0
    first_backoff: float = 0.1
    longest_backoff: float = 20.0
    resolve_interval: float | None = 30.0
    keepalive_interval: float | None = 10.0
    keepalive_timeout: float = 10.0
    busy_poll: float | None = None

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "connect_timeout",
            "first_backoff",
            "longest_backoff",
            "resolve_interval",
            "keepalive_interval",
            "keepalive_timeout",
            "busy_poll",
        )


@dataclass(frozen=True)
class ServerConnectivity:
    """How a server keeps its connections, and how many. Times in seconds; None is no limit.

    Args:
        max_connections: connections at a time; more are refused.
        max_concurrent_rpcs: RPCs in flight on one connection; more end with RESOURCE_EXHAUSTED.
        max_age: a connection that is older takes no further RPC: its client makes another one,
            perhaps to another server. Up to 10 % longer or shorter, by chance.
        max_age_grace: the time that the RPCs of such a connection have to end; then they are
            cancelled.
        max_idle: a connection without RPCs for so long is given up; its client makes another one
            when it needs it.
        keepalive_interval: a client that has not been heard of for so long is asked for a sign of
            life; None to ask never. Clients that do not know of it are not asked.
        keepalive_timeout: the time that it has to give one; then its connection is lost.
        busy_poll: poll instead of sleeping while a call with one reply is in flight, and for so
            many seconds after each traffic, such as 0.0002: a shorter latency, for a core that is
            never idle meanwhile. None for not at all.
    """

    max_connections: int | None = None
    max_concurrent_rpcs: int | None = None
    max_age: float | None = None
    max_age_grace: float | None = None
    max_idle: float | None = None
    keepalive_interval: float | None = 30.0
    keepalive_timeout: float = 10.0
    busy_poll: float | None = None

    def __post_init__(self) -> None:
        _check_positive(
            self,
            "max_connections",
            "max_concurrent_rpcs",
            "max_age",
            "max_idle",
            "keepalive_interval",
            "keepalive_timeout",
            "busy_poll",
        )


def _check_positive(options: object, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"{type(options).__name__}.{name} must be above 0, not {value!r}")
