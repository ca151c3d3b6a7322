"""What a service is: its name and its methods, as data that stubs and servers share.

Generated code builds these once, at import. They hold no state and do no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Message = TypeVar("Message")

# The names of google.protobuf.MethodOptions.IdempotencyLevel.
IdempotencyLevel: TypeAlias = Literal["IDEMPOTENCY_UNKNOWN", "NO_SIDE_EFFECTS", "IDEMPOTENT"]


class Marshaller(Generic[Message]):
    """How messages of one type become bytes, and bytes become messages.

    Args:
        serialize: turns a message into its bytes.
        parse: turns bytes into a message; raises anything when it cannot.
        name: what errors call the message type.
    """

    __slots__ = ("name", "parse", "serialize")

    def __init__(
        self,
        serialize: Callable[[Message], bytes],
        parse: Callable[[bytes], Message],
        name: str = "message",
    ) -> None:
        self.serialize: Final = serialize
        self.parse: Final = parse
        self.name: Final = name

    def __repr__(self) -> str:
        return f"<Marshaller of {self.name}>"


def protobuf(message_type: type[Message]) -> Marshaller[Message]:
    """The marshaller of a message class with protobuf's ``SerializeToString`` and ``FromString``.

    Google's message classes have them, and so have those of betterproto2.
    """
    cls: Any = message_type
    descriptor = getattr(cls, "DESCRIPTOR", None)
    name = descriptor.full_name if descriptor else cls.__name__
    return Marshaller(cls.SerializeToString, cls.FromString, name)


def _as_bytes(message: bytes) -> bytes:
    if not isinstance(message, (bytes, bytearray, memoryview)):
        raise TypeError(f"bytes are needed, not {type(message).__name__}")
    return bytes(message)


BYTES: Final[Marshaller[bytes]] = Marshaller(_as_bytes, bytes, "bytes")
"""The marshaller of messages that stay serialized."""


class MethodDescriptor(Generic[Request, Reply]):
    """One method of a service; use one of its four subclasses, one per kind of RPC.

    Args:
        path: ``/package.Service/Method``, as it stands on the wire.
        request, reply: marshallers of the two message types.
        timeout: seconds that a call may take when its caller names no timeout.
        max_request_size, max_reply_size: bytes of one serialized message, for both sides; None is
            the limit of the channel or server. Neither takes more than its own limit in any case.
        idempotency_level: what repeating the call does, as protobuf's option of this name says.
        deprecated: calling it gives a DeprecationWarning, once.
        handler: the attribute of a servicer that handles it, when it is not the method's name
            (which may be a word that Python keeps for itself).
    """

    __slots__ = (
        "deprecated",
        "handler",
        "idempotency_level",
        "max_reply_size",
        "max_request_size",
        "path",
        "reply",
        "request",
        "timeout",
    )

    streams_requests: bool = False
    streams_replies: bool = False

    def __init__(
        self,
        path: str,
        request: Marshaller[Request],
        reply: Marshaller[Reply],
        *,
        timeout: float | None = None,
        max_request_size: int | None = None,
        max_reply_size: int | None = None,
        idempotency_level: IdempotencyLevel = "IDEMPOTENCY_UNKNOWN",
        deprecated: bool = False,
        handler: str | None = None,
    ) -> None:
        self.path: Final = path
        self.request: Final = request
        self.reply: Final = reply
        self.timeout: Final = timeout
        self.max_request_size: Final = max_request_size
        self.max_reply_size: Final = max_reply_size
        self.idempotency_level: Final[IdempotencyLevel] = idempotency_level
        self.deprecated: Final = deprecated
        self.handler: Final = handler or self.name

    @property
    def name(self) -> str:
        """The method's own name, the last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def idempotent(self) -> bool:
        """Whether repeating the call does no harm: it has no side effects, or has them once."""
        return self.idempotency_level != "IDEMPOTENCY_UNKNOWN"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class UnaryUnaryMethod(MethodDescriptor[Request, Reply]):
    """One request, one reply."""

    __slots__ = ()


class UnaryStreamMethod(MethodDescriptor[Request, Reply]):
    """One request, a stream of replies."""

    __slots__ = ()
    streams_replies = True


class StreamUnaryMethod(MethodDescriptor[Request, Reply]):
    """A stream of requests, one reply."""

    __slots__ = ()
    streams_requests = True


class StreamStreamMethod(MethodDescriptor[Request, Reply]):
    """A stream of requests and a stream of replies, at the same time."""

    __slots__ = ()
    streams_requests = True
    streams_replies = True


class ServiceDescriptor:
    """A service: its full name (``package.Service``) and its methods."""

    __slots__ = ("methods", "name")

    def __init__(self, name: str, methods: tuple[MethodDescriptor[Any, Any], ...]) -> None:
        self.name: Final = name
        self.methods: Final = methods

    def __repr__(self) -> str:
        return f"<ServiceDescriptor {self.name}, {len(self.methods)} methods>"
