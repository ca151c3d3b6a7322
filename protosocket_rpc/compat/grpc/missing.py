"""The names of ``grpc`` that lead nowhere here: importable, to derive from, and not to be used.

Programs and libraries that know both of gRPC's APIs import all of these names, and use those of
``grpc.aio``. A function says on its first call what to use instead.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from protosocket_rpc.errors import UsageError

_ELSEWHERE: Final = "needs gRPC's own transports, or Google's cloud: see ssl_channel_credentials"
_AT_RUN_TIME: Final = "compiles protos at run time: use `protosocket generate` beforehand"

FUNCTIONS: Final = {
    "alts_channel_credentials": _ELSEWHERE,
    "alts_server_credentials": _ELSEWHERE,
    "channel_ready_future": "belongs to the blocking API: await channel.channel_ready()",
    "compute_engine_channel_credentials": _ELSEWHERE,
    "insecure_channel": "belongs to the blocking API: use grpc.aio.insecure_channel",
    "intercept_channel": "belongs to the blocking API: give interceptors to grpc.aio's channels",
    "protos": _AT_RUN_TIME,
    "protos_and_services": _AT_RUN_TIME,
    "secure_channel": "belongs to the blocking API: use grpc.aio.secure_channel",
    "server": "belongs to the blocking API: use grpc.aio.server, which runs plain functions too",
    "services": _AT_RUN_TIME,
    "xds_channel_credentials": _ELSEWHERE,
    "xds_server_credentials": _ELSEWHERE,
}

# Of the blocking API; those of grpc.aio have the same names.
CLASSES: Final = (
    "Future",
    "ServerInterceptor",
    "StreamStreamClientInterceptor",
    "StreamStreamMultiCallable",
    "StreamUnaryClientInterceptor",
    "StreamUnaryMultiCallable",
    "UnaryStreamClientInterceptor",
    "UnaryStreamMultiCallable",
    "UnaryUnaryClientInterceptor",
    "UnaryUnaryMultiCallable",
)


class FutureTimeoutError(Exception):
    """Raised by ``Future`` of the blocking API: by nothing here."""


class FutureCancelledError(Exception):
    """Raised by ``Future`` of the blocking API: by nothing here."""


def function(name: str, why: str) -> Any:
    """A function that cannot be called."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise UsageError(f"grpc.{name} {why}")

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"Raises UsageError: it {why}."
    return refuse


def names() -> dict[str, Any]:
    """All of them."""
    found: dict[str, Any] = {name: function(name, why) for name, why in FUNCTIONS.items()}
    for name in CLASSES:
        found[name] = type(name, (), {"__doc__": "Of gRPC's blocking API: a name to derive from."})
    for error in (FutureTimeoutError, FutureCancelledError):
        found[error.__name__] = error
    return found
