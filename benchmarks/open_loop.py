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
        if best_step(offer, middle).holds(P999_LIMIT_MS):
            good = middle
        else:
            bad = middle
    return good


def _bracket(offer: Callable[[float], Step]) -> tuple[float, float]:
    """The highest rate that holds, of those that double the first one (or halve it); 0 if there is
    none; and its double. A rate that is answered too late may be so for reasons that a higher one
    does not meet: what ends the search is that calls pile up."""
    good, rate = 0.0, _FIRST_RATE
    while rate <= _LAST_RATE:
        step = best_step(offer, rate)
        if step.holds(P999_LIMIT_MS):
            good = rate
        elif step.unanswered:
            break
        rate *= 2
    rate = _FIRST_RATE
    while not good and rate > _LEAST_RATE:
        rate /= 2
        if best_step(offer, rate).holds(P999_LIMIT_MS):
            good = rate
    return good, good * 2


def best_step(offer: Callable[[float], Step], rate: float) -> Step:
    """The first of some tries that holds, or the last: a stall of the machine is not the peer's,
    and passes. Calls that pile up until they are given up are the peer's: that is not tried again.
    """
    for _ in range(TRIES):
        step = offer(rate)
        if step.holds(P999_LIMIT_MS) or step.unanswered:
            break
    return step


def step_of(rate: float, answer: dict[str, Any]) -> Step:
    latency = Histogram.from_json(answer["latency"])
    lateness = Histogram.from_json(answer["lateness"])
    p50, p99, p999 = (latency.percentile(p) / 1e6 if latency.total else 0.0 for p in (50, 99, 99.9))
    late = lateness.percentile(99.9) / 1e6 if lateness.total else 0.0
    return Step(rate, answer["calls"], answer["unanswered"], p50, p99, p999, late)
