"""MessagePack documents, framed as by Rust's protosocket-messagepack.

Five bytes, which are themselves a MessagePack uint 32 (0xce, then the length in big-endian
order), and that many bytes of one document. Needs msgpack: ``pip install
protosocket-rpc[msgpack]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protosocket_rpc.errors import DecodeError, FrameTooLarge
from protosocket_rpc.raw.codecs.limits import MAX_MESSAGE_SIZE

_UINT32: Final = 0xCE
_PREFIX: Final = 5


class MessagePackCodec:
    """Documents as plain objects: None, bool, int, float, str, bytes, list, dict.

    Note that Rust's serde writes a struct as the list of its fields.

    Args:
        max_message_size: bytes of one document. A larger one is `FrameTooLarge` as soon as its
            length is known, and ends the connection.

    Raises:
        ImportError: msgpack is not installed.
    """

    __slots__ = ("_max_message_size", "_needed", "_pack", "_unpack")

    def __init__(self, *, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        try:
            import msgpack  # type: ignore[import-untyped]  # it comes without types
        except ImportError as error:
            raise ImportError(
                "MessagePackCodec needs msgpack: pip install 'protosocket-rpc[msgpack]'"
            ) from error
        self._pack: Callable[[Any], bytes] = msgpack.packb
        self._unpack: Callable[..., Any] = msgpack.unpackb
        self._max_message_size = max_message_size
        self._needed = 0

    def decode(self, data: bytes, messages: list[Any]) -> int:
        size = len(data)
        pos = 0
        while pos < size:
            if data[pos] != _UINT32:
                raise DecodeError(
                    f"a message begins with {data[pos]:#04x} where the length, {_UINT32:#04x} "
                    "and four bytes, is expected"
                )
            start = pos + _PREFIX
            if start > size:
                self._needed = _PREFIX
                return pos
            length = int.from_bytes(data[pos + 1 : start], "big")
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
                # What msgpack raises for bad bytes are ValueErrors, and TypeError for a key that
                # cannot be one; a document's own map keys need not be strings.
                messages.append(self._unpack(data[start:end], strict_map_key=False))
            except (ValueError, TypeError, OverflowError) as error:
                raise DecodeError(
                    f"these {length} bytes are no MessagePack document: {error}"
                ) from error
            pos = end
        return pos

    def needed(self) -> int:
        return self._needed

    def encode(self, message: Any) -> bytes:
        """The framed document.

        Raises:
            TypeError: MessagePack has no form for such an object.
        """
        data = self._pack(message)
        return b"\xce" + len(data).to_bytes(4, "big") + data
