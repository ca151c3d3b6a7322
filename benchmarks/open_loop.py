"""The search for the highest constant rate that a peer answers in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.results import Step

P999_LIMIT_MS = 5.0
TRIES = 3
_FIRST_RATE = 1_000.0
_LEAST_RATE = 125.0
_LAST_RATE = 2_000_000.0
_BISECTIONS = 3
_CALLS = 2_000
_SHORTEST_STEP, _LONGEST_STEP = 1.0, 2.0


def step_seconds(rate: float) -> float:
    """How long to offer a rate. The longer, the longer a stall of the machine may be."""
    return min(_LONGEST_STEP, max(_SHORTEST_STEP, _CALLS / rate))


def highest_rate(offer: Callable[[float], Step]) -> float:
    """The highest rate that holds, to within 9 %; 0 if not even the least one does."""
    good, bad = _bracket(offer)
    if not good:
        return 0.0
    for _ in range(_BISECTIONS if bad <= _LAST_RATE else 0):
        middle = (good * bad) ** 0.5
        if holds(offer, middle):
            good = middle
        else:
            bad = middle
    return good


def _bracket(offer: Callable[[float], Step]) -> tuple[float, float]:
    """A rate that holds, 0 if there is none, and its double."""
    rate = _FIRST_RATE
    if holds(offer, rate):
        while rate * 2 <= _LAST_RATE and holds(offer, rate * 2):
            rate *= 2
        return rate, rate * 2
    while rate > _LEAST_RATE:
        rate /= 2
        if holds(offer, rate):
            return rate, rate * 2
    return 0.0, rate


def holds(offer: Callable[[float], Step], rate: float) -> bool:
    """Whether one of some tries does: a stall of the machine is not the peer's, and passes. Calls
    that pile up until they are given up are the peer's."""
    for _ in range(TRIES):
        step = offer(rate)
        if step.holds(P999_LIMIT_MS):
            return True
        if step.unanswered:
            return False
    return False


def step_of(rate: float, answer: dict[str, Any]) -> Step:
    latency = Histogram.from_json(answer["latency"])
    lateness = Histogram.from_json(answer["lateness"])
    p50, p99, p999 = (latency.percentile(p) / 1e6 if latency.total else 0.0 for p in (50, 99, 99.9))
    late = lateness.percentile(99.9) / 1e6 if lateness.total else 0.0
    return Step(rate, answer["calls"], answer["unanswered"], p50, p99, p999, late)
