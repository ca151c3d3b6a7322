"""The limits of service calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# What a request stream may send before the server's settings have arrived.
CREDIT_BEFORE_SETTINGS: Final = 64 * 1024
# No limit by credit: the connection alone is the limit.
UNLIMITED: Final = 1 << 62

# Characters of a method's path that a server looks for, if it is none of those that were added.
MAX_METHOD_LENGTH: Final = 1024

# Of the fields of a frame other than its body and its metadata.
_FRAME_OVERHEAD: Final = 16 * 1024


@dataclass(frozen=True)
class RpcLimits:
    """Limits of one side of service calls, in bytes. Each is applied before memory is spent.

    Args:
        max_receive_message_size: the largest message taken from the peer; a larger one ends its
            RPC with RESOURCE_EXHAUSTED. gRPC's default.
        max_send_message_size: the largest message sent; None is no limit. gRPC's default.
        max_metadata_size: the largest total of keys and values in one list of metadata.
        stream_window: how much of one stream may arrive before it is read; then its sender waits.
        max_queued_output: output of one connection that may wait for a peer that does not read.
    """

    max_receive_message_size: int = 4 * 1024 * 1024
    max_send_message_size: int | None = None
    max_metadata_size: int = 16 * 1024
    stream_window: int = 256 * 1024
    max_queued_output: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in (
            "max_receive_message_size",
            "max_metadata_size",
            "stream_window",
            "max_queued_output",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"RpcLimits.{name} must be at least 1, not {getattr(self, name)}")

    @property
    def max_frame_size(self) -> int:
        """The largest serialized Frame that can hold what the other limits allow."""
        return self.max_receive_message_size + 2 * self.max_metadata_size + _FRAME_OVERHEAD


_GRPC_OPTIONS: Final = {
    "max_receive_message_size": "grpc.max_receive_message_length",
    "max_send_message_size": "grpc.max_send_message_length",
    "max_metadata_size": "grpc.max_metadata_size",
}


def too_large(what: str, size: int, limit: int, side: str, setting: str) -> str:
    """What a status says of something above a limit: gRPC's text, then whose limit that is.

    Args:
        what: "Received message", "Sent metadata", ...
        side: "client" or "server".
        setting: the field of `RpcLimits`, or of a method's descriptor.
    """
    option = _GRPC_OPTIONS.get(setting)
    name = f"RpcLimits.{setting}, {option}" if option else f"{setting} of the method"
    return f"{what} larger than max ({size} vs. {limit}): the {side}'s limit ({name})"
