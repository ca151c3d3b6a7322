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
from typing import NamedTuple

from benchmarks import certificates, targets
from benchmarks.open_loop import P999_LIMIT_MS, highest_rate, step_of, step_seconds
from benchmarks.peer import MixedPeer, Peer, Ready, UnavailableError
from benchmarks.processes import (
    Driver,
    PeerFailedError,
    Process,
    Server,
    cores,
    free_port,
    stolen_seconds,
)
from benchmarks.results import PeerResults, Results, Step
from benchmarks.work import Endpoint, Setup, Work
from benchmarks.workloads import HELD, IDLE, OPEN_LOOP, POOL, Workload

_SEARCH_SECONDS = 18.0
_REPEATS = 3
_ROUNDS_OF_MEMORY = 3
_OVERHEAD_SECONDS = 0.3
_SESSION_SECONDS = 1.2
# Rounds of everything; those beyond are of what the goals are about.
_FULL_ROUNDS = 3
_WARM_UP = 0.25  # of the measured time


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
    heavy_rounds: int = _FULL_ROUNDS
    """Of the full rounds, how many have what takes many times as long as the rest."""


class Session(NamedTuple):
    """What is done with one server and one client process."""

    peer: Peer
    setup: Setup
    workloads: list[Workload]
    open_loop: bool

    def __str__(self) -> str:
        return f"{self.setup.name} {self.peer.name}"

    def estimate(self, seconds: float) -> float:
        """How long it will take, about, with so many seconds for each workload."""
        search = _SEARCH_SECONDS if self.open_loop else 0.0
        each = seconds * (1 + _WARM_UP) + _OVERHEAD_SECONDS
        return _SESSION_SECONDS + search + each * sum(w.stretch for w in self.workloads)


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
                "heavy_rounds": plan.heavy_rounds,
                "minutes": plan.minutes,
                "server_core": self._server_core,
                "client_core": self._client_core,
                "p999_limit_ms": P999_LIMIT_MS,
            }
        )

    def run(self) -> Results:
        _allow_many_files()
        self._prepare()
        begin, stolen = time.monotonic(), stolen_seconds()
        with tempfile.TemporaryDirectory() as directory:
            self._directory = Path(directory)
            certificates.write(self._directory)
            try:
                self._measure()
            except KeyboardInterrupt:
                self._say("interrupted: the results are those of what was done by then")
        share = (stolen_seconds() - stolen) / (time.monotonic() - begin)
        self.results.machine["stolen_percent"] = 100 * share / self.results.machine["cores"]
        return self.results

    def _prepare(self) -> None:
        for peer in self._peers:
            result = self.results.peers.setdefault(peer.name, PeerResults())
            begin = time.monotonic()
            try:
                ready = self._ready_of(peer)
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

    def _ready_of(self, peer: Peer) -> Ready:
        if isinstance(peer, MixedPeer):
            parts = (self._ready_of(part) for part in (peer.server, peer.client))
            return peer.combine(*parts)
        # A part of a mixed peer may be ready on its own account.
        return self._ready.get(peer.name) or peer.prepare(self._plan.here)

    def _measure(self) -> None:
        end = time.monotonic() + self._plan.minutes * 60
        peers = [peer for peer in self._peers if peer.name in self._ready]
        if self._plan.costs:
            for peer in peers:
                self._say(f"costs of {peer.name}")
                self._costs(peer)
        rounds = [self._sessions(peers, number) for number in range(self._plan.rounds)]
        fixed = [sum(session.estimate(0.0) for session in sessions) for sessions in rounds]
        slope = [sum(session.estimate(1.0) for session in sessions) for sessions in rounds]
        slope = [both - alone for both, alone in zip(slope, fixed, strict=True)]
        clock = Clock(end, sum(fixed) + sum(slope))
        for number, sessions in enumerate(rounds):
            if number >= _FULL_ROUNDS and clock.left() < fixed[number]:
                self._say(f"no time is left for round {number + 1}")
                break
            begin = time.monotonic()
            seconds = _within((clock.left() - sum(fixed[number:])) / (sum(slope[number:]) or 1.0))
            self.results.settings.setdefault("seconds", []).append(seconds)
            for session in _in_turn(sessions, number):
                what = f"round {number + 1}/{self._plan.rounds} {session}"
                self._say(f"{clock} {what}: {len(session.workloads)} x {seconds:.2f} s")
                self._run_session(session, seconds, number)
                clock.done += session.estimate(1.0)
            # Now it is known what else takes time.
            other = time.monotonic() - begin - slope[number] * seconds
            factor = max(0.0, other) / (fixed[number] or 1.0)
            fixed = [each * factor for each in fixed]

    def _sessions(self, peers: Sequence[Peer], number: int) -> list[Session]:
        """Of one round: everything in the first ones, then what the goals are about."""
        plan = self._plan
        heavy_rounds = min(plan.heavy_rounds, _FULL_ROUNDS)
        sessions = []
        for setup in dict.fromkeys([Setup(), *(workload.setup for workload in plan.workloads)]):
            for peer in peers:
                goals = targets.needed().get(peer.name, set())
                todo = [
                    w
                    for w in plan.workloads
                    if w.setup == setup
                    and w.needs <= peer.supports
                    and (w.name in goals or number < (heavy_rounds if w.heavy else _FULL_ROUNDS))
                ]
                open_loop = (
                    plan.open_loop
                    and setup == Setup()
                    and "open" in peer.supports
                    and (targets.OPEN_LOOP in goals or number < heavy_rounds)
                )
                if todo or open_loop:
                    sessions.append(Session(peer, setup, todo, open_loop))
        return sessions

    def _run_session(self, session: Session, seconds: float, number: int) -> None:
        """Its processes are started again when one has failed."""
        peer, setup, todo, open_loop = session
        result = self.results.peers[peer.name]
        left = list(todo)
        while left or open_loop:
            workload = None
            try:
                with self._pair(peer, setup) as (driver, server):
                    while left:
                        workload = left.pop(0)
                        length = seconds * workload.stretch
                        warmup = 0.0 if workload.heavy else seconds * _WARM_UP
                        work = replace(workload.work, seconds=length, warmup=warmup)
                        answer = driver.measure(work, server)
                        result.measurement(workload.name).add(answer, number)
                    workload = None
                    if open_loop:
                        open_loop = False
                        self._open_loop(peer.name, driver, server)
            except PeerFailedError as error:
                name = workload.name if workload else f"open loop or start, {setup.name}"
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
        loop = self.results.peers[name].open_loop

        def offer(rate: float) -> Step:
            work = replace(OPEN_LOOP, rate=rate, seconds=step_seconds(rate))
            loop.steps.append(step_of(rate, driver.measure(work, server)))
            return loop.steps[-1]

        loop.highest.append(highest_rate(offer))

    def _costs(self, peer: Peer) -> None:
        costs = self.results.peers[peer.name].costs
        ready = self._ready[peer.name]
        try:
            for work, times in ((IDLE, _ROUNDS_OF_MEMORY), (POOL, _ROUNDS_OF_MEMORY), (HELD, 1)):
                if work.kind in peer.supports:
                    costs.update(self._memory(peer, work, times))
            costs["cold_start_seconds"] = self._cold_start(ready)
        except PeerFailedError as error:
            self._say(f"failed: costs of {peer.name}: {error}")
            self.results.peers[peer.name].open_loop.errors.append(f"costs: {error}")
        if ready.imports:
            costs["import_seconds"] = self._median_seconds(ready.imports, ready)
            bare = [ready.imports[0], "-c", "import asyncio"]
            costs["import_asyncio_seconds"] = self._median_seconds(bare, ready)

    def _memory(self, peer: Peer, work: Work, times: int) -> dict[str, float]:
        """Of each connection or call, by side; from processes that have served nothing before."""
        answers = []
        for _ in range(times):
            with self._pair(peer, Setup()) as (driver, server):
                answers.append(driver.measure(work, server))
        names = [f"{side}_bytes" for side in ("client", "server")]
        return {
            f"{work.kind}_{name}": statistics.median(each[name] / each["calls"] for each in answers)
            for name in names
        }

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


def _in_turn(sessions: Sequence[Session], number: int) -> Iterator[Session]:
    """Setup by setup; within one, each round begins with another peer."""
    for setup in dict.fromkeys(session.setup for session in sessions):
        group = [session for session in sessions if session.setup == setup]
        start = number % len(group)
        yield from group[start:] + group[:start]


def _within(seconds: float) -> float:
    return min(3.0, max(0.15, seconds))


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16384)), hard))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
