"""A user's codec as a session needs it: messages in envelopes that name their RPC."""

from __future__ import annotations

from typing import Final, Generic

from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.rpc.message import CANCEL, END, NORMAL, Envelope, MessageType

# What a message costs beyond its bytes on the wire, roughly: the objects that hold it.
OVERHEAD: Final = 256


class EnvelopeCodec(Generic[Inbound, Outbound]):
    """Puts each message that `codec` decodes into an `Envelope`; encodes as `codec` does.

    Args:
        codec: the user's own, for one connection.
        inbound: tells the id and the control code of what `codec` decodes.
    """

    def __init__(self, codec: Codec[Inbound, Outbound], inbound: MessageType[Inbound]) -> None:
        self._codec = codec
        self._inbound = inbound

    def decode(self, data: bytes, messages: list[Envelope[Inbound]]) -> int:
        decoded: list[Inbound] = []
        end = len(data)
        try:
            end = self._codec.decode(data, decoded)
        finally:  # what came before bytes that are broken is delivered
            if decoded:
                self._wrap(decoded, min(end, len(data)), messages)
        return end

    def _wrap(self, decoded: list[Inbound], total: int, messages: list[Envelope[Inbound]]) -> None:
        inbound = self._inbound
        size = total // len(decoded) + OVERHEAD
        for message in decoded:
            code = inbound.control_code(message)
            if not NORMAL <= code <= END:
                code = CANCEL
            messages.append(Envelope(inbound.message_id(message), code, message, size))

    def needed(self) -> int:
        return self._codec.needed()

    @property
    def unfinished(self) -> bool:
        return bool(getattr(self._codec, "unfinished", False))

    def encode(self, message: Outbound) -> bytes:
        return self._codec.encode(message)
