"""Bytes <-> messages: what an encoder and a decoder are.

A codec is any object with both methods; a connection takes the two as one object or as two.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

Inbound = TypeVar("Inbound")
Outbound = TypeVar("Outbound")
Inbound_co = TypeVar("Inbound_co", covariant=True)
Outbound_contra = TypeVar("Outbound_contra", contravariant=True)


class Decoder(Protocol[Inbound]):
    """Turns the bytes of one connection into messages. One per connection: it may hold state.

    One that keeps part of a message itself, instead of asking for it to be kept, has an attribute
    `unfinished` that is true meanwhile: a connection does not end well then.
    """

    def decode(self, data: bytes, messages: list[Inbound]) -> int:
        """Append every whole message at the front of `data` to `messages`.

        There are three outcomes, and one more:

        * *messages*: they are appended, and the return value is the position behind the last.
        * *need more*: what follows that position is not a whole message yet. It is kept, and
          handed in again with more bytes behind it.
        * *broken*: raise `DecodeError`. Messages appended before are still delivered, then the
          connection ends.
        * *skip*: return a position beyond ``len(data)``. The bytes up to there are dropped as
          they arrive, and never held.
        """
        ...  # a protocol has no body

    def needed(self) -> int:
        """After *need more*: the total bytes of the unfinished message, framing included.

        0 when that is not known yet. Spares needless attempts, and lets a limit apply before
        any of the message is buffered.
        """
        ...  # a protocol has no body


class Encoder(Protocol[Outbound_contra]):
    """Turns a message into the bytes that stand for it on the wire."""

    def encode(self, message: Outbound_contra) -> bytes:
        """The framed bytes of `message`."""
        ...  # a protocol has no body


class Codec(Decoder[Inbound], Encoder[Outbound_contra], Protocol[Inbound, Outbound_contra]):
    """Both directions in one object."""


class CodecPair(Generic[Inbound, Outbound]):
    """A codec of a decoder and an encoder that know nothing of each other."""

    __slots__ = ("_decoder", "_encoder")

    def __init__(self, decoder: Decoder[Inbound], encoder: Encoder[Outbound]) -> None:
        self._decoder = decoder
        self._encoder = encoder

    def decode(self, data: bytes, messages: list[Inbound]) -> int:
        return self._decoder.decode(data, messages)

    def needed(self) -> int:
        return self._decoder.needed()

    @property
    def unfinished(self) -> bool:
        return bool(getattr(self._decoder, "unfinished", False))

    def encode(self, message: Outbound) -> bytes:
        return self._encoder.encode(message)
