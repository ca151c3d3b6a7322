"""The pauses between attempts: exponential, with jitter, no longer than a limit."""

from __future__ import annotations

import random

import pytest

from protosocket_rpc.service.backoff import Backoff


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next pauses are off by, as parts of them; 0 once it is empty."""
    planned: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert (low, high) == (-0.2, 0.2)
        return planned.pop(0) if planned else 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    return planned


def test_each_failure_in_a_row_makes_the_pause_longer_up_to_a_limit(jitter: list[float]) -> None:
    backoff = Backoff(0.1, 0.5)
    pauses = [backoff.next() for _ in range(6)]
    assert pauses == pytest.approx([0.1, 0.16, 0.256, 0.4096, 0.5, 0.5])


def test_success_begins_anew(jitter: list[float]) -> None:
    backoff = Backoff(0.1, 20.0)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_jitter_is_of_the_pause_and_does_not_add_up(jitter: list[float]) -> None:
    backoff = Backoff(1.0, 20.0)
    jitter += [0.2, -0.2]
    assert [backoff.next() for _ in range(3)] == pytest.approx([1.2, 1.28, 2.56])


def test_clients_of_one_server_do_not_come_back_at_the_same_time() -> None:
    pauses = {Backoff(1.0, 20.0).next() for _ in range(100)}
    assert len(pauses) > 90
    assert all(0.8 <= pause <= 1.2 for pause in pauses)
