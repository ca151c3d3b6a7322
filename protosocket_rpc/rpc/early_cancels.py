"""RPCs that a client cancelled before it opened them. Sans-I/O.

A client that sends from several queues may have a CANCEL overtake the message that opens its RPC,
and one opening another: the Rust crate does, for calls that are dropped at once.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, Protocol

# Those that one connection remembers; beyond that, the oldest are forgotten.
MAX_EARLY_CANCELS: Final = 1024
# Ranges of ids that were passed over and may still be opened; beyond that, the lowest is forgotten.
MAX_GAPS: Final = 1024


class EarlyCancels:
    """Knows which ids were never opened, and which of them are to end as soon as they are.

    An id may be used again: a CANCEL that is late for one RPC must not end the next one.
    """

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}
        self._gaps: list[tuple[int, int]] = []  # ascending; the end is not in it

    def add(self, id: int, last_id: int) -> None:
        """A CANCEL arrived for an id that is not in flight; `last_id` is the greatest opened."""
        if id > last_id or self._gap(id) is not None:
            ids = self._ids
            ids[id] = None
            if len(ids) > MAX_EARLY_CANCELS:
                del ids[next(iter(ids))]

    def open(self, id: int, last_id: int) -> bool:
        """An RPC is opened: True if it was cancelled before. `last_id` is as it was before."""
        gaps = self._gaps
        if id > last_id + 1:
            gaps.append((last_id + 1, id))
        elif id <= last_id:
            index = self._gap(id)
            if index is not None:
                first, end = gaps[index]
                rest = ((first, id), (id + 1, end))
                gaps[index : index + 1] = [gap for gap in rest if gap[0] < gap[1]]
        if len(gaps) > MAX_GAPS:
            del gaps[0]
        if id in self._ids:
            del self._ids[id]
            return True
        return False

    def _gap(self, id: int) -> int | None:
        """The index of the gap that an id is in."""
        gaps = self._gaps
        index = bisect_right(gaps, id, key=_first) - 1
        return index if index >= 0 and id < gaps[index][1] else None


class Opened(Protocol):
    """A server's side of a connection.

    Attributes:
        last_id: the greatest id of an RPC that was opened.
        early_cancels: None while ids count up, and each RPC is opened before it is cancelled.
    """

    last_id: int
    early_cancels: EarlyCancels | None


def on_early_cancel(session: Opened, id: int) -> None:
    """A CANCEL arrived for an id that is not in flight."""
    if session.early_cancels is None:
        if id <= session.last_id:
            return  # late, for an RPC that has had its answer
        session.early_cancels = EarlyCancels()
    session.early_cancels.add(id, session.last_id)


def open_out_of_turn(session: Opened, id: int) -> bool:
    """An RPC is opened that is not the next one, or after an early CANCEL: True if it was its."""
    if session.early_cancels is None:
        session.early_cancels = EarlyCancels()
    return session.early_cancels.open(id, session.last_id)


def _first(gap: tuple[int, int]) -> int:
    return gap[0]
