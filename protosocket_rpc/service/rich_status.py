"""Rich errors: a status with messages as its details, as in google.rpc.Status.

The standard messages for it (``BadRequest``, ``RetryInfo``, ``ErrorInfo``, ...) are in
``google.rpc.error_details_pb2``, which the extra ``status`` installs::

    await context.abort_with_status(
        rich_status(StatusCode.INVALID_ARGUMENT, "no such date", BadRequest(...))
    )

    except AioRpcError as error:
        for detail in status_details(error): ...
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any, Final

from protosocket_rpc.metadata import MetadataLike
from protosocket_rpc.status import Status, StatusCode, status_code

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.rpc.status_pb2 import Status as GoogleStatus

# Where gRPC keeps a serialized google.rpc.Status.
GRPC_DETAILS_KEY: Final = "grpc-status-details-bin"


class RichStatus(Status):
    """A status with details, for `ServicerContext.abort_with_status`.

    Attributes:
        rich_details: serialized ``google.protobuf.Any`` messages.
    """

    def __init__(
        self,
        code: StatusCode,
        details: str,
        rich_details: tuple[bytes, ...],
        trailing_metadata: MetadataLike | None = None,
    ) -> None:
        self.code = code
        self.details = details
        self.rich_details = rich_details
        self.trailing_metadata = trailing_metadata


def rich_status(
    code: StatusCode,
    message: str,
    *details: Message,
    trailing_metadata: MetadataLike | None = None,
) -> RichStatus:
    """A status with protobuf messages as its details.

    Args:
        code: not OK.
        message: a text for the caller.
        details: any messages; a ``google.protobuf.Any`` stays what it is.
    """
    from google.protobuf.any_pb2 import Any as AnyMessage

    packed = []
    for detail in details:
        if isinstance(detail, AnyMessage):
            any_message = detail
        else:
            any_message = AnyMessage()
            any_message.Pack(detail)
        packed.append(any_message.SerializeToString())
    return RichStatus(code, message, tuple(packed), trailing_metadata)


def status_details(error: Any) -> list[Message]:
    """The messages that came with an error.

    Args:
        error: an `AioRpcError`; also one whose details came gRPC's way, in its trailing metadata.

    Returns:
        Each as a message of its own type, if that type's module was imported or is one of the
        standard ones; else as the ``google.protobuf.Any`` that it came in.

    Raises:
        google.protobuf.message.DecodeError: what came is no such message.
    """
    from google.protobuf.any_pb2 import Any as AnyMessage

    serialized = error.status_details()
    if serialized:
        return [_unpacked(AnyMessage.FromString(each)) for each in serialized]
    google = _from_trailers(error.code(), error.trailing_metadata())
    return [] if google is None else [_unpacked(each) for each in google.details]


def _unpacked(packed: Any) -> Message:
    from google.protobuf import descriptor_pool, message_factory

    with contextlib.suppress(ImportError):  # the extra `status` is not installed
        importlib.import_module("google.rpc.error_details_pb2")  # which makes them known
    name = packed.type_url.rpartition("/")[2]
    try:
        descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        unknown: Message = packed
        return unknown
    message: Message = message_factory.GetMessageClass(descriptor)()
    packed.Unpack(message)
    return message


# -- google.rpc.Status itself, as in the package grpc_status -------------------------------


def to_status(status: GoogleStatus) -> RichStatus:
    """A ``google.rpc.Status`` for `ServicerContext.abort_with_status`."""
    details = tuple(detail.SerializeToString() for detail in status.details)
    return RichStatus(status_code(status.code), status.message, details)


def google_details(status: Status) -> list[tuple[str, bytes]]:
    """The trailing metadata by which gRPC tells the details of a status; none if it has none.

    Raises:
        ImportError: the extra ``status`` is not installed.
    """
    details: tuple[bytes, ...] = getattr(status, "rich_details", ())
    if not details:
        return []
    google = _google_status(status.code, status.details, details, None)
    assert google is not None
    return [(GRPC_DETAILS_KEY, google.SerializeToString())]


def from_error(error: Any) -> GoogleStatus | None:
    """The ``google.rpc.Status`` of an `AioRpcError`; None if it has no details.

    Raises:
        ValueError: it says something else than the error itself.
        ImportError: the extra ``status`` is not installed.
    """
    return _google_status(
        error.code(), error.details(), error.status_details(), error.trailing_metadata()
    )


async def from_call(call: Any) -> GoogleStatus | None:
    """As `from_error`, of a call; waits for its end."""
    return _google_status(
        await call.code(),
        await call.details(),
        await call.status_details(),
        await call.trailing_metadata(),
    )


def _google_status(
    code: StatusCode, details: str | None, serialized: tuple[bytes, ...], trailers: Any
) -> GoogleStatus | None:
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc.status_pb2 import Status as GoogleStatus

    if serialized:
        return GoogleStatus(
            code=code.number,
            message=details or "",
            details=[AnyMessage.FromString(each) for each in serialized],
        )
    google = _from_trailers(code, trailers)
    if google is not None and google.message != details:
        raise ValueError(
            f"the message in google.rpc.Status, {google.message!r}, is not the call's: {details!r}"
        )
    return google


def _from_trailers(code: StatusCode, trailers: Any) -> GoogleStatus | None:
    content = next((value for key, value in trailers or () if key == GRPC_DETAILS_KEY), None)
    if content is None:
        return None
    from google.rpc.status_pb2 import Status as GoogleStatus

    google = GoogleStatus.FromString(content)
    if google.code != code.number:
        raise ValueError(
            f"the code in google.rpc.Status, {google.code}, is not the call's: {code.name}"
        )
    return google
