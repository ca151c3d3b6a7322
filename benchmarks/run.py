"""Measures every peer in interleaved rounds: plan, sessions, progress."""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import certificates
from benchmarks.open_loop import P999_LIMIT_MS, highest_rate, step_of
from benchmarks.peer import Peer, Ready, UnavailableError
from benchmarks.processes import Driver, PeerFailedError, Process, Server, cores, free_port
from benchmarks.results import PeerResults, Results
from benchmarks.work import Endpoint, Setup, Work
from benchmarks.workloads import HELD, IDLE, OPEN_LOOP, Workload

_STEP_SECONDS = 0.8
_STEPS_EXPECTED = 11
_REPEATS = 5
_OVERHEAD_SECONDS = 0.3
_SESSION_SECONDS = 1.2
_COSTS_SECONDS = 9.0


@dataclass(frozen=True)
class Plan:
    workloads: Sequence[Workload]
    rounds: int
    minutes: float
    """How long all rounds together should take."""
    open_loop: bool
    costs: bool
    here: bool
    """Run Python peers in this interpreter instead of one of their own."""


class Runner:
    """One run. `say` is told about progress in lines of text."""

    def __init__(self, plan: Plan, peers: Sequence[Peer], say: Callable[[str], None]) -> None:
        self._plan = plan
        self._peers = peers
        self._say = say
        self._server_core, self._client_core = cores()
        self._ready: dict[str, Ready] = {}
        self.results = Results.begin(
            {
                "rounds": plan.rounds,
                "minutes": plan.minutes,
                "server_core": self._server_core,
                "client_core": self._client_core,
                "p999_limit_ms": P999_LIMIT_MS,
            }
        )

    def run(self) -> Results:
        _allow_many_files()
        self._prepare()
        with tempfile.TemporaryDirectory() as directory:
            self._directory = Path(directory)
            certificates.write(self._directory)
            try:
                self._measure()
            except KeyboardInterrupt:
                self._say("interrupted: the results are those of what was done by then")
        return self.results

    def _prepare(self) -> None:
        for peer in self._peers:
            result = self.results.peers.setdefault(peer.name, PeerResults())
            begin = time.monotonic()
            try:
                ready = peer.prepare(self._plan.here)
            except UnavailableError as error:
                result.left_out = str(error)
                self._say(f"left out: {peer.name}: {error}")
                continue
            self._ready[peer.name] = ready
            result.versions = ready.versions
            if ready.installed_bytes:
                result.costs["install_bytes"] = ready.installed_bytes
            took = time.monotonic() - begin
            versions = ", ".join(f"{name} {version}" for name, version in ready.versions.items())
            self._say(f"ready: {peer.name} ({versions}) in {took:.1f} s")

    def _measure(self) -> None:
        setups = list(dict.fromkeys(workload.setup for workload in self._plan.workloads))
        peers = [peer for peer in self._peers if peer.name in self._ready]
        sessions = [
            (peer, setup, todo)
            for setup in setups
            for peer in peers
            if (todo := self._todo(peer, setup))
        ]
        units = sum(w.stretch for _, _, todo in sessions for w in todo)
        steps = _STEPS_EXPECTED * sum("open" in peer.supports for peer in peers)
        fixed = len(sessions) * _SESSION_SECONDS + units * _OVERHEAD_SECONDS
        if self._plan.open_loop:
            fixed += steps * (_STEP_SECONDS + _OVERHEAD_SECONDS)
        costs = _COSTS_SECONDS * len(peers) if self._plan.costs else 0.0
        budget = self._plan.minutes * 60
        seconds = _within(((budget - costs) / self._plan.rounds - fixed) / units / 1.25)
        end = time.monotonic() + budget
        if self._plan.costs:
            for peer in peers:
                self._say(f"costs of {peer.name}")
                self._costs(peer)
        clock = Clock(end, self._plan.rounds * sum(self._weight(*s) for s in sessions))
        for number in range(self._plan.rounds):
            begin = time.monotonic()
            turn = number % max(1, len(sessions))
            for peer, setup, todo in _by_setup(sessions, turn):
                what = f"round {number + 1}/{self._plan.rounds} {_name(setup)} {peer.name}"
                self._say(f"{clock} {what}: {len(todo)} x {seconds:.2f} s")
                self._session(peer, setup, todo, seconds)
                clock.done += self._weight(peer, setup, todo)
            self.results.settings.setdefault("seconds", []).append(seconds)
            left = self._plan.rounds - number - 1
            if left:
                spare = clock.left() / left - (time.monotonic() - begin)
                seconds = _within(seconds + spare / units / 1.25)

    def _todo(self, peer: Peer, setup: Setup) -> list[Workload]:
        return [w for w in self._plan.workloads if w.setup == setup and w.needs <= peer.supports]

    def _weight(self, peer: Peer, setup: Setup, todo: Sequence[Workload]) -> float:
        """The share of a session in the time of a round."""
        steps = _STEPS_EXPECTED if self._does_open_loop(peer, setup) else 0
        return 1 + steps + sum(workload.stretch for workload in todo)

    def _does_open_loop(self, peer: Peer, setup: Setup) -> bool:
        return self._plan.open_loop and setup == Setup() and "open" in peer.supports

    def _session(self, peer: Peer, setup: Setup, todo: Sequence[Workload], seconds: float) -> None:
        """All workloads of one setup on one peer; a process that failed is started again."""
        result = self.results.peers[peer.name]
        left = list(todo)
        open_loop = self._does_open_loop(peer, setup)
        while left or open_loop:
            workload = None
            try:
                with self._pair(peer, setup) as (driver, server):
                    while left:
                        workload = left.pop(0)
                        length = seconds * workload.stretch
                        warmup = 0.0 if workload.heavy else seconds / 4
                        work = replace(workload.work, seconds=length, warmup=warmup)
                        result.measurement(workload.name).add(driver.measure(work, server))
                    workload = None
                    if open_loop:
                        open_loop = False
                        self._open_loop(peer.name, driver, server)
            except PeerFailedError as error:
                name = workload.name if workload else f"open loop or start, {_name(setup)}"
                self._say(f"failed: {peer.name}: {name}: {error}")
                if workload is None:
                    result.open_loop.errors.append(f"{name}: {error}")
                    for other in left:
                        result.measurement(other.name).errors.append(str(error))
                    return
                result.measurement(workload.name).errors.append(str(error))

    @contextmanager
    def _pair(self, peer: Peer, setup: Setup) -> Iterator[tuple[Driver, Server]]:
        ready = self._ready[peer.name]
        endpoint = self._endpoint(setup)
        server = Server(ready.server, endpoint, self._server_core, ready.environment)
        try:
            driver = Driver(ready.client, endpoint, self._client_core, ready.environment)
            try:
                yield driver, server
            finally:
                driver.stop()
        finally:
            server.stop()

    def _endpoint(self, setup: Setup) -> Endpoint:
        if setup.transport == "unix":
            path = self._directory / "socket"
            path.unlink(missing_ok=True)
            address = f"unix:{path}"
        else:
            address = f"127.0.0.1:{free_port()}"
        tls = self._directory if setup.transport == "tls" else None
        return Endpoint(address, tls, setup.interceptor, setup.wide, setup.busy_poll)

    def _open_loop(self, name: str, driver: Driver, server: Server) -> None:
        """Doubles the rate until it does not hold, then halves the gap a few times."""
        loop = self.results.peers[name].open_loop

        def holds(rate: float) -> bool:
            for _ in range(2):  # a second chance: one hiccup of the machine is not the peer's
                work = replace(OPEN_LOOP, rate=rate, seconds=_STEP_SECONDS)
                step = step_of(rate, driver.measure(work, server))
                loop.steps.append(step)
                if step.holds(P999_LIMIT_MS):
                    return True
            return False

        loop.highest.append(highest_rate(holds))

    def _costs(self, peer: Peer) -> None:
        costs = self.results.peers[peer.name].costs
        ready = self._ready[peer.name]
        try:
            for work in (IDLE, HELD):
                if work.kind not in peer.supports:
                    continue
                with self._pair(peer, Setup()) as (driver, server):
                    answer = driver.measure(work, server)
                for side in ("client", "server"):
                    costs[f"{work.kind}_{side}_bytes"] = answer[f"{side}_bytes"] / answer["calls"]
            costs["cold_start_seconds"] = self._cold_start(ready)
        except PeerFailedError as error:
            self._say(f"failed: costs of {peer.name}: {error}")
            self.results.peers[peer.name].open_loop.errors.append(f"costs: {error}")
        if ready.imports:
            costs["import_seconds"] = self._median_seconds(ready.imports, ready)
            bare = [ready.imports[0], "-c", "import asyncio"]
            costs["import_asyncio_seconds"] = self._median_seconds(bare, ready)

    def _median_seconds(self, command: Sequence[str], ready: Ready) -> float:
        times = []
        for _ in range(_REPEATS):
            begin = time.monotonic()
            process = Process(command, self._client_core, ready.environment, pipes=False)
            process.wait()
            times.append(time.monotonic() - begin)
            process.stop()
        return statistics.median(times)

    def _cold_start(self, ready: Ready) -> float:
        """From the start of a client process to its first answer, against a running server."""
        endpoint = self._endpoint(Setup())
        server = Server(ready.server, endpoint, self._server_core, ready.environment)
        times = []
        try:
            for _ in range(_REPEATS):
                begin = time.monotonic()
                driver = Driver(ready.client, endpoint, self._client_core, ready.environment)
                try:
                    driver.measure(Work(seconds=0.0, warmup=0.0), server)
                    times.append(time.monotonic() - begin)
                finally:
                    driver.stop()
        finally:
            server.stop()
        return statistics.median(times)


class Clock:
    """How much of the time is over; printed in front of every line of progress."""

    def __init__(self, end: float, total: float) -> None:
        self._begin = time.monotonic()
        self._end = end
        self._total = max(1.0, total)
        self.done = 0.0

    def left(self) -> float:
        """Seconds of the budget."""
        return self._end - time.monotonic()

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._begin
        share = self.done / self._total
        left = elapsed / share - elapsed if self.done else self.left()
        return f"[{share:4.0%}, {max(0.0, left) / 60:4.1f} min left]"


def _by_setup(
    sessions: Sequence[tuple[Peer, Setup, list[Workload]]], turn: int
) -> Iterator[tuple[Peer, Setup, list[Workload]]]:
    """Setup by setup; within one, each round begins with another peer."""
    for setup in dict.fromkeys(setup for _, setup, _ in sessions):
        group = [session for session in sessions if session[1] == setup]
        start = turn % len(group)
        yield from group[start:] + group[:start]


def _name(setup: Setup) -> str:
    extras = [f"{setup.interceptor} interceptor"] if setup.interceptor else []
    extras += ["500 methods"] if setup.wide else []
    extras += ["busy polling"] if setup.busy_poll else []
    return "+".join([setup.transport, *extras])


def _within(seconds: float) -> float:
    return min(3.0, max(0.15, seconds))


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16384)), hard))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
