"""How messages were compressed, told from how many bytes they took on their way.

No API of either library shows it per message. A link counts the bytes, whatever protocol they are
of, and with TLS too. All compressible messages here are zeros, of which compression leaves nothing
to speak of.
"""

from __future__ import annotations

import itertools
import os

from protosocket_rpc.testing import Direction

# Bytes that are no messages: handshakes, frames, and what is left of compressed messages. All of
# them together have fewer, and each message that counts has more.
_OTHERS = 16 * 1024

_numbers = itertools.count(1)


class Meter:
    """Tells what has passed in one direction since it was last asked, by one client at a time."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._seen = 0

    def passed(self, uncompressed: int) -> bool:
        """Whether so many bytes of messages were not compressed, and all others were."""
        count = self._direction.bytes - self._seen
        self._seen += count
        return uncompressed <= count < uncompressed + _OTHERS


def beside(address: str) -> str:
    """A free address of the same kind."""
    if address.startswith(("unix:", "memory:")):
        return f"{address}-{os.getpid()}-{next(_numbers)}"
    return "127.0.0.1:0"
