"""What a server counts, if it is asked to: calls by method and status code, and how long they took.

A `Snapshot` is made of what JSON has, so that several processes' can be sent and added up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypedDict

from protosocket_rpc.status import StatusCode

# Upper bounds in seconds; calls that take longer are in a last bucket of their own.
BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# Servers may serve any path with generic handlers: methods beyond so many are counted as one.
MOST_METHODS: Final = 1000
OTHER: Final = "(other)"
# RPCs that were refused before they had a method: unknown ones, and those above a limit. Also what
# an interceptor answers for a path that nothing has a handler for: clients may make up any.
REFUSED: Final = "(refused)"

_CODES: Final = {code.number: code.name for code in StatusCode}


class MethodSnapshot(TypedDict):
    """The RPCs of one method that have ended."""

    codes: dict[str, int]
    """How many, by the name of their status code."""
    buckets: list[int]
    """How many, by how long they took: one number for each of `BUCKETS`, and a last one."""
    seconds: float
    """How long they took, together."""


class Snapshot(TypedDict):
    """What a server has counted by some moment."""

    methods: dict[str, MethodSnapshot]
    """By path."""
    in_flight: int
    """RPCs in flight now."""
    connections: int
    """Connections that are open now."""


def empty_snapshot() -> Snapshot:
    """Nothing counted."""
    return {"methods": {}, "in_flight": 0, "connections": 0}


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of what several servers have counted."""
    total = empty_snapshot()
    for each in snapshots:
        total["in_flight"] += each["in_flight"]
        total["connections"] += each["connections"]
        for path, method in each["methods"].items():
            known = total["methods"].get(path)
            if known is None:
                known = total["methods"][path] = _empty_method()
            for code, count in method["codes"].items():
                known["codes"][code] = known["codes"].get(code, 0) + count
            known["buckets"] = [
                a + b for a, b in zip(known["buckets"], method["buckets"], strict=True)
            ]
            known["seconds"] += method["seconds"]
    return total


def _empty_method() -> MethodSnapshot:
    return {"codes": {}, "buckets": [0] * (len(BUCKETS) + 1), "seconds": 0.0}


class _MethodCounts:
    __slots__ = ("buckets", "codes", "seconds")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class ServerMetrics:
    """Counts the RPCs of a server; an argument of `server()`.

    It costs each call two looks at the clock and a few additions; a server without it, nothing.
    """

    def __init__(self) -> None:
        self._methods: dict[str, _MethodCounts] = {}

    def count(self, path: str, code: int, seconds: float) -> None:
        """An RPC has ended: its method, its status code's number, how long it took."""
        counts = self._methods.get(path)
        if counts is None:
            if len(self._methods) >= MOST_METHODS:
                path = OTHER
            counts = self._methods.setdefault(path, _MethodCounts())
        counts.codes[code] = counts.codes.get(code, 0) + 1
        counts.buckets[bisect_left(BUCKETS, seconds)] += 1
        counts.seconds += seconds

    def methods(self) -> dict[str, MethodSnapshot]:
        """What was counted so far, by path."""
        return {
            path: {
                "codes": {
                    _CODES.get(code, "UNKNOWN"): count for code, count in counts.codes.items()
                },
                "buckets": list(counts.buckets),
                "seconds": counts.seconds,
            }
            for path, counts in self._methods.items()
        }


def render(snapshot: Snapshot) -> str:
    """As Prometheus reads it (text format 0.0.4)."""
    return "".join(f"{line}\n" for line in _lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    methods = sorted(snapshot["methods"].items())
    name = "protosocket_server_connections"
    yield from header(name, "gauge", "Connections that are open.")
    yield f"{name} {snapshot['connections']}"
    name = "protosocket_server_in_flight"
    yield from header(name, "gauge", "RPCs in flight.")
    yield f"{name} {snapshot['in_flight']}"
    name = "protosocket_server_handled_total"
    yield from header(name, "counter", "RPCs that have ended, by status code.")
    for path, method in methods:
        for code, count in sorted(method["codes"].items()):
            yield f"{name}{labels(method=path, code=code)} {count}"
    name = "protosocket_server_handling_seconds"
    yield from header(name, "histogram", "How long RPCs took, from their first frame to the last.")
    for path, method in methods:
        total = 0
        for bound, count in zip((*BUCKETS, "+Inf"), method["buckets"], strict=True):
            total += count
            yield f"{name}_bucket{labels(method=path, le=bound)} {total}"
        yield f"{name}_sum{labels(method=path)} {method['seconds']!r}"
        yield f"{name}_count{labels(method=path)} {total}"


def header(name: str, kind: str, text: str) -> Iterator[str]:
    """The lines that go before a metric's values."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def labels(**values: Any) -> str:
    """The labels of a value, in braces."""
    pairs = [f'{name}="{_escaped(str(value))}"' for name, value in values.items()]
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
