"""The limits of one connection, and how its output is batched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one connection, in bytes. Each is applied before the memory is spent.

    Args:
        max_buffer: the largest unfinished message, framing included, that is held while the rest
            of it arrives. More is `FrameTooLarge` and ends the connection.
        max_queued_output: output may wait for a peer that does not read up to here; then
            `Connection.send` raises `OutputQueueFull`.
    """

    max_buffer: int = 16 * 1024 * 1024
    max_queued_output: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("max_buffer", "max_queued_output"):
            if getattr(self, name) < 1:
                raise ValueError(f"Limits.{name} must be at least 1, not {getattr(self, name)}")
