"""Messages that know which RPC they belong to: the id and the control code."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Generic, Protocol, TypeVar

from protosocket_rpc.native import mypyc_attr

Message = TypeVar("Message")

NORMAL: Final = 0
CANCEL: Final = 1
END: Final = 2


class ControlCode(IntEnum):
    """What a message does to its RPC: protosocket-rpc's ``ProtosocketControlCode``."""

    NORMAL = 0
    CANCEL = 1
    END = 2


@mypyc_attr(allow_interpreted_subclasses=True)
class Tagged:
    """What a session sees of a message: the RPC's id, and the control code."""

    id: int = 0
    code: int = NORMAL


@mypyc_attr(allow_interpreted_subclasses=True)
class Envelope(Tagged, Generic[Message]):
    """A user's own message, with what its `MessageType` says of it.

    Attributes:
        size: the bytes that count for it while nobody has taken it.
    """

    def __init__(self, id: int, code: int, message: Message, size: int = 0) -> None:
        self.id = id
        self.code = code
        self.message = message
        self.size = size


class MessageType(Protocol[Message]):
    """How to read and write the id and the control code of one type of message.

    What the trait ``protosocket_rpc::Message`` is in Rust. `ProtobufMessage` is one for any
    protobuf message class.
    """

    def message_id(self, message: Message) -> int:
        """The id of the RPC that the message belongs to."""
        ...  # a protocol has no body

    def set_message_id(self, message: Message, id: int) -> Message:
        """The message with this id: the same object changed, or a new one."""
        ...  # a protocol has no body

    def control_code(self, message: Message) -> int:
        """The message's `ControlCode`. Values beyond END count as CANCEL."""
        ...  # a protocol has no body

    def cancelled(self, id: int) -> Message:
        """A message that cancels the RPC, or tells that it was cancelled."""
        ...  # a protocol has no body

    def ended(self, id: int) -> Message:
        """A message that ends the RPC's stream."""
        ...  # a protocol has no body


@mypyc_attr(allow_interpreted_subclasses=True)
class ProtobufMessage(Generic[Message]):
    """The `MessageType` of a protobuf message with a field for the id and one for the code.

    Args:
        message_type: the class that protoc made.
        id: the name of the field with the id.
        code: the name of the field with the control code, a number or an enum.

    Raises:
        ValueError: the message has no such field.
    """

    def __init__(self, message_type: type[Message], id: str = "id", code: str = "code") -> None:
        descriptor: Any = message_type.DESCRIPTOR  # type: ignore[attr-defined]  # protoc's classes
        for field in (id, code):
            if field not in descriptor.fields_by_name:
                raise ValueError(f"{descriptor.full_name} has no field {field!r}")
        self._type: Any = message_type
        self._id = id
        self._code = code

    def message_id(self, message: Message) -> int:
        value: int = getattr(message, self._id)
        return value

    def set_message_id(self, message: Message, id: int) -> Message:
        setattr(message, self._id, id)
        return message

    def control_code(self, message: Message) -> int:
        value: int = getattr(message, self._code)
        return value

    def cancelled(self, id: int) -> Message:
        message: Message = self._type(**{self._id: id, self._code: CANCEL})
        return message

    def ended(self, id: int) -> Message:
        message: Message = self._type(**{self._id: id, self._code: END})
        return message
