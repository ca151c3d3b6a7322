"""What a run measured: collected round by round, kept as JSON, read by the report and the plots."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.processes import ROOT


@dataclass
class Round:
    """One measurement of one workload."""

    rate: float
    """Calls, or messages of a stream, per second."""
    client_us: float
    """CPU time per call."""
    server_us: float
    background: float = 0.0
    """Calls of the other kind per second."""
    number: int = 0
    """Of the run's round; those of several peers with the same number belong together."""


@dataclass
class Measurement:
    """All rounds of one workload on one peer."""

    rounds: list[Round] = field(default_factory=list)
    latency: Histogram = field(default_factory=Histogram)
    """Nanoseconds, of all rounds; empty for streams."""
    errors: list[str] = field(default_factory=list)

    def add(self, answer: dict[str, Any], number: int) -> None:
        calls = max(1, answer["calls"])
        self.rounds.append(
            Round(
                answer["calls"] / answer["seconds"],
                answer["client_cpu"] / calls * 1e6,
                answer["server_cpu"] / calls * 1e6,
                answer["background"] / answer["seconds"],
                number,
            )
        )
        self.latency.merge(Histogram.from_json(answer["latency"]))

    def median(self, of: Callable[[Round], float] = lambda r: r.rate) -> float | None:
        return statistics.median(map(of, self.rounds)) if self.rounds else None

    def to_json(self) -> dict[str, Any]:
        return {
            "rounds": [asdict(r) for r in self.rounds],
            "latency": self.latency.to_json(),
            "errors": self.errors,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measurement:
        rounds = [Round(**{"number": n, **r}) for n, r in enumerate(data["rounds"])]
        return cls(rounds, Histogram.from_json(data["latency"]), data["errors"])


@dataclass
class Step:
    """A constant rate that was offered for a while; times in milliseconds."""

    rate: float
    answered: int
    unanswered: int
    p50: float
    p99: float
    p999: float
    lateness_p999: float
    """Of the generator: from the intended to the actual moment of sending."""

    def holds(self, limit: float) -> bool:
        return not self.unanswered and self.p999 < limit


@dataclass
class OpenLoop:
    """The search for the highest rate that holds the limit, once for each round."""

    highest: list[float] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


LEAST_IDLE_BYTES = 512


@dataclass
class PeerResults:
    versions: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    """Why the peer was not measured."""
    workloads: dict[str, Measurement] = field(default_factory=dict)
    open_loop: OpenLoop = field(default_factory=OpenLoop)
    costs: dict[str, float] = field(default_factory=dict)

    def measurement(self, workload: str) -> Measurement:
        return self.workloads.setdefault(workload, Measurement())

    def rate(self, workload: str) -> float | None:
        """The median over the rounds."""
        measurement = self.workloads.get(workload)
        return measurement.median() if measurement else None

    def idle_bytes(self, side: str) -> float | None:
        """The memory of an idle connection; None if it was not measured.

        On the client it is that of one more connection of a channel, where a channel can have
        more than one; otherwise that of a channel. A figure below that of any transport is none:
        the process had memory to spare.
        """
        used = self.costs.get(f"pool_{side}_bytes", self.costs.get(f"idle_{side}_bytes"))
        return used if used is not None and used >= LEAST_IDLE_BYTES else None

    def highest(self) -> float | None:
        return statistics.median(self.open_loop.highest) if self.open_loop.highest else None


@dataclass
class Results:
    settings: dict[str, Any]
    machine: dict[str, Any]
    date: str
    commit: str
    peers: dict[str, PeerResults] = field(default_factory=dict)

    @classmethod
    def begin(cls, settings: dict[str, Any]) -> Results:
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(settings, _machine(), date, _commit())

    def measured(self) -> Iterable[tuple[str, PeerResults]]:
        return ((name, peer) for name, peer in self.peers.items() if not peer.left_out)

    def save(self, path: Path) -> None:
        data = {
            "date": self.date,
            "commit": self.commit,
            "machine": self.machine,
            "settings": self.settings,
            "peers": {
                name: {
                    "versions": peer.versions,
                    "left_out": peer.left_out,
                    "workloads": {w: m.to_json() for w, m in peer.workloads.items()},
                    "open_loop": asdict(peer.open_loop),
                    "costs": peer.costs,
                }
                for name, peer in self.peers.items()
            },
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_rounded(data), separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        results = cls(data["settings"], data["machine"], data["date"], data["commit"])
        for name, peer in data["peers"].items():
            loop = peer["open_loop"]
            steps = [Step(**step) for step in loop["steps"]]
            results.peers[name] = PeerResults(
                peer["versions"],
                peer["left_out"],
                {w: Measurement.from_json(m) for w, m in peer["workloads"].items()},
                OpenLoop(loop["highest"], steps, loop["errors"]),
                peer["costs"],
            )
        return results


def ratio_of_rounds(ours: Measurement | None, theirs: Measurement | None) -> float | None:
    """The median over the rounds of how many times their rate ours was; None without a round that
    both have. What is slow for a while is so for both sides of a round."""
    if ours is None or theirs is None:
        return None
    base = {each.number: each.rate for each in theirs.rounds}
    ratios = [each.rate / base[each.number] for each in ours.rounds if base.get(each.number)]
    return statistics.median(ratios) if ratios else None


def ratio(value: float | None, baseline: float | None) -> float | None:
    return value / baseline if value is not None and baseline else None


def _rounded(data: Any) -> Any:
    """Five digits are more than any of the figures is worth."""
    if isinstance(data, float):
        return float(f"{data:.5g}")
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_rounded(value) for value in data]
    return data


def _machine() -> dict[str, Any]:
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.platform(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
