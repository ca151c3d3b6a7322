"""Length-delimited protobuf messages: `varint length` + `length bytes`.

The bytes of Rust's protosocket-prost, of ``writeDelimitedTo`` in Java, and of
``google.protobuf.proto.serialize_length_prefixed``.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from google.protobuf.message import DecodeError as ParseError
from google.protobuf.message import Message

from protosocket_rpc.errors import DecodeError, FrameTooLarge
from protosocket_rpc.raw.codecs.limits import MAX_MESSAGE_SIZE
from protosocket_rpc.raw.varint import decode_varint, encode_varint

AnyMessage = TypeVar("AnyMessage", bound=Message)


class ProtobufCodec(Generic[AnyMessage]):
    """Decodes messages of one class, and encodes messages of any.

    Args:
        message: the class of the messages that arrive.
        max_message_size: bytes of one serialized message. A larger one is `FrameTooLarge` as soon
            as its length is known, and ends the connection.
    """

    __slots__ = ("_max_message_size", "_message", "_needed")

    def __init__(
        self, message: type[AnyMessage], *, max_message_size: int = MAX_MESSAGE_SIZE
    ) -> None:
        self._message = message
        self._max_message_size = max_message_size
        self._needed = 0

    def decode(self, data: bytes, messages: list[AnyMessage]) -> int:
        parse = self._message.FromString
        size = len(data)
        pos = 0
        while pos < size:
            length, start = decode_varint(data, pos, size)
            if start < 0:
                self._needed = 0
                return pos
            if length > self._max_message_size:
                raise FrameTooLarge(
                    f"the peer sends a message of {length} bytes; "
                    f"max_message_size is {self._max_message_size}"
                )
            end = start + length
            if end > size:
                self._needed = end - pos
                return pos
            try:
                messages.append(parse(data[start:end]))
            except ParseError as error:
                name = self._message.DESCRIPTOR.full_name
                raise DecodeError(f"these {length} bytes are no {name}") from error
            pos = end
        return pos

    def needed(self) -> int:
        return self._needed

    def encode(self, message: Message) -> bytes:
        data = message.SerializeToString()
        return encode_varint(len(data)) + data
