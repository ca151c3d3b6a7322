"""The status codes of gRPC, and what goes with them."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from protosocket_rpc.metadata import MetadataLike


class StatusCode(Enum):
    """How an RPC ended; gRPC's 17 codes. The value is ``(number, 'lower case name')``."""

    OK = (0, "ok")
    CANCELLED = (1, "cancelled")
    UNKNOWN = (2, "unknown")
    INVALID_ARGUMENT = (3, "invalid argument")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    NOT_FOUND = (5, "not found")
    ALREADY_EXISTS = (6, "already exists")
    PERMISSION_DENIED = (7, "permission denied")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    FAILED_PRECONDITION = (9, "failed precondition")
    ABORTED = (10, "aborted")
    OUT_OF_RANGE = (11, "out of range")
    UNIMPLEMENTED = (12, "unimplemented")
    INTERNAL = (13, "internal")
    UNAVAILABLE = (14, "unavailable")
    DATA_LOSS = (15, "data loss")
    UNAUTHENTICATED = (16, "unauthenticated")

    @property
    def number(self) -> int:
        """The code as it stands on the wire."""
        return self.value[0]


_BY_NUMBER: Final = {code.number: code for code in StatusCode}


def status_code(number: int) -> StatusCode:
    """The code of a number; UNKNOWN for one that gRPC does not define (as in gRPC)."""
    return _BY_NUMBER.get(number, StatusCode.UNKNOWN)


def to_status_code(code: Any) -> StatusCode:
    """The code of what a user gave: a `StatusCode`, its number, or grpcio's own StatusCode.

    Raises:
        TypeError: it is none of them.
    """
    if isinstance(code, StatusCode):
        return code
    if isinstance(code, int):
        return status_code(code)
    value = getattr(code, "value", None)  # an enum like ours
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        return status_code(value[0])
    raise TypeError(f"a status code must be a StatusCode, not {code!r}")


class Status:
    """How an RPC is to end: what `ServicerContext.abort_with_status` takes.

    As in gRPC, a base to derive from; any object with these attributes will do.
    `rich_status.to_status` makes one of a ``google.rpc.Status``.

    Attributes:
        code: not OK.
        details: a text for the caller.
        trailing_metadata: to go with it; None for none.
    """

    code: StatusCode
    details: str
    trailing_metadata: MetadataLike | None


# The numbers, for modules that only pass them on.
OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16
