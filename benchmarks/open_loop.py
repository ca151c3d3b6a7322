"""The search for the highest constant rate that a peer answers in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.results import Step

P999_LIMIT_MS = 5.0
_FIRST_RATE = 500.0
_LAST_RATE = 2_000_000.0
_BISECTIONS = 3


def highest_rate(holds: Callable[[float], bool]) -> float:
    """The highest rate that holds, to within 9 %; 0 if not even the first one does."""
    good, bad = 0.0, _FIRST_RATE
    while holds(bad):
        good, bad = bad, bad * 2
        if bad > _LAST_RATE:
            return good
    if not good:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (good * bad) ** 0.5
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good


def step_of(rate: float, answer: dict[str, Any]) -> Step:
    latency = Histogram.from_json(answer["latency"])
    lateness = Histogram.from_json(answer["lateness"])
    p50, p99, p999 = (latency.percentile(p) / 1e6 if latency.total else 0.0 for p in (50, 99, 99.9))
    late = lateness.percentile(99.9) / 1e6 if lateness.total else 0.0
    return Step(rate, answer["calls"], answer["unanswered"], p50, p99, p999, late)
