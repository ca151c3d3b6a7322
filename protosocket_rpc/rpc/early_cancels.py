"""RPCs that a client cancelled before it opened them. Sans-I/O.

A client that sends from several queues may have a CANCEL overtake the message that opens its RPC:
the Rust crate's does, for a call that is dropped at once.
"""

from __future__ import annotations

from typing import Final

# Those that one connection remembers; beyond that, the oldest are forgotten.
MAX_EARLY_CANCELS: Final = 1024


class EarlyCancels:
    """Ids of RPCs that are to end as soon as they are opened."""

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}

    def add(self, id: int) -> None:
        """A CANCEL arrived for an id that no RPC has had yet."""
        ids = self._ids
        ids[id] = None
        if len(ids) > MAX_EARLY_CANCELS:
            del ids[next(iter(ids))]

    def take(self, id: int) -> bool:
        """An RPC was opened: True if it was cancelled before, once."""
        if id in self._ids:
            del self._ids[id]
            return True
        return False
