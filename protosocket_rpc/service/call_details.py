"""What interceptors are told of a call, and may change: all but its request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from protosocket_rpc.metadata import Metadata
from protosocket_rpc.service.call_credentials import CallCredentials
from protosocket_rpc.service.compression import Compression


class ClientCallDetails(NamedTuple):
    """A call that is about to be made: ``grpc.aio.ClientCallDetails``.

    Attributes:
        method: its path, as bytes.
        timeout: seconds; None for none.
        metadata: to go with the request.
        credentials, wait_for_ready, compression: as for the call.
    """

    method: bytes
    timeout: float | None
    metadata: Metadata | None
    credentials: CallCredentials | None
    wait_for_ready: bool | None
    compression: Compression | None = None


# Of a tuple of all six: what the class calls for that is a function of Python.
call_details: Final[Callable[[Any], ClientCallDetails]] = partial(tuple.__new__, ClientCallDetails)


def completed(details: Any, compression: Compression | None) -> ClientCallDetails:
    """Details as an interceptor made them, perhaps of a class of its own."""
    method = details.method
    chosen = _optional(details, "compression")
    return ClientCallDetails(
        method.encode() if isinstance(method, str) else method,
        details.timeout,
        details.metadata,
        details.credentials,
        _optional(details, "wait_for_ready"),
        compression if chosen is None else chosen,
    )


def _optional(details: Any, field: str) -> Any:
    try:
        return getattr(details, field, None)
    except IndexError:  # a shorter tuple, of a class that is derived from ours as well
        return None
