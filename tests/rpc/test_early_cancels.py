"""Which RPCs are cancelled before they are opened, whatever the order of the ids."""

from __future__ import annotations

import random

from protosocket_rpc.rpc.early_cancels import MAX_EARLY_CANCELS, MAX_GAPS, EarlyCancels


class Ids:
    """Ids as a session sees them."""

    def __init__(self) -> None:
        self.early = EarlyCancels()
        self.last_id = 0

    def open(self, id: int) -> bool:
        cancelled = self.early.open(id, self.last_id)
        self.last_id = max(id, self.last_id)
        return cancelled

    def cancel(self, id: int) -> None:
        self.early.add(id, self.last_id)


def test_an_id_that_was_passed_over_may_be_cancelled_before_it_is_opened() -> None:
    ids = Ids()
    assert not ids.open(9)
    ids.cancel(4)
    assert not ids.open(5)
    assert ids.open(4)
    assert not ids.open(4)  # that was it


def test_an_id_that_was_opened_may_not() -> None:
    ids = Ids()
    for id in (9, 4, 3):
        assert not ids.open(id)
    for id in (9, 4, 3):
        ids.cancel(id)  # late
        assert not ids.open(id)


def test_any_order_of_opening_and_cancelling() -> None:
    """Against a table of all that was opened."""
    choose = random.Random(1).choice
    for _ in range(200):
        ids = Ids()
        opened: set[int] = set()
        cancelled: set[int] = set()
        for _ in range(100):
            id = choose(range(1, 30))
            if choose((True, False)):
                assert ids.open(id) == (id in cancelled)
                opened.add(id)
                cancelled.discard(id)
            else:
                ids.cancel(id)
                if id not in opened:
                    cancelled.add(id)


def test_no_more_than_max_early_cancels_are_remembered() -> None:
    ids = Ids()
    for id in range(1, MAX_EARLY_CANCELS + 3):
        ids.cancel(id)
    assert [id for id in range(1, MAX_EARLY_CANCELS + 3) if not ids.open(id)] == [1, 2]


def test_no_more_than_max_gaps_are_remembered() -> None:
    ids = Ids()
    passed_over = range(1, 2 * MAX_GAPS + 5, 2)
    for id in passed_over:
        ids.open(id + 1)
    for id in passed_over[-MAX_EARLY_CANCELS:]:
        ids.cancel(id)
    ids.cancel(1)  # too long ago
    assert [id for id in passed_over if not ids.open(id)] == [1, 3]
