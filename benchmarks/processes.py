"""The processes of a peer, each pinned to a core of its own, and what they cost.

CPU time and memory are what the kernel counts, over a process and all its descendants, so that they
mean the same for every peer, whatever language it is written in and however many workers it starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.work import OF_MEMORY, Endpoint, Work

ROOT = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
# With a process's number it makes the number of that process's CPU clock (clock_getcpuclockid(3)).
_CPUCLOCK_SCHED = 2
_START_SECONDS = 20.0
_STOP_SECONDS = 3.0
_PATIENCE_SECONDS = 45.0


class PeerFailedError(Exception):
    """A process of a peer died, did not answer in time, or reported an error."""


def cores() -> tuple[int, int]:
    """A core for the server and one for the client: siblings of one physical core only if the
    machine leaves no other choice."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[0]
    others = [core for core in allowed if core not in _siblings(server)]
    return server, (others or allowed)[-1 if not others else 0]


def _siblings(core: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        ranges = [part.split("-") for part in path.read_text().strip().split(",")]
    except OSError:
        return {core}
    return {n for r in ranges for n in range(int(r[0]), int(r[-1]) + 1)}


def stolen_seconds() -> float:
    """Of CPU time that this (virtual) machine was to have since its start, and did not get."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[8]) / _TICKS


class Process:
    """A child process pinned to `core`, ended with everything that it started."""

    def __init__(
        self, command: Sequence[str], core: int, environment: Mapping[str, str], pipes: bool
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by stop()
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # inherited by the child from its first instruction on
        try:
            self._popen = subprocess.Popen(
                list(command),
                cwd=tempfile.gettempdir(),  # not the checkout: it would hide what is installed
                env={**os.environ, **environment},
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else self._errors,
                stderr=self._errors,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise PeerFailedError(f"{command[0]}: {error.strerror}") from error
        finally:
            os.sched_setaffinity(0, allowed)

    def running(self) -> bool:
        return self._popen.poll() is None

    def cpu_seconds(self) -> float:
        """By the processes' own clocks: /proc counts in hundredths of a second."""
        return sum(map(_cpu_seconds, self._tree()))

    def private_bytes(self) -> int:
        """What is in memory for these processes alone."""
        kibibytes = 0
        for pid in self._tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Private_"):
                        kibibytes += int(line.split()[1])
        return kibibytes * 1024

    def _tree(self) -> Iterator[int]:
        left = [self._popen.pid]
        while left:
            pid = left.pop()
            yield pid
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    left.extend(map(int, children.read_text().split()))

    def failure(self, what: str) -> PeerFailedError:
        """`what` went wrong, with the last thing that the process said."""
        self._errors.seek(0)
        said = [line for line in self._errors.read().decode(errors="replace").splitlines() if line]
        return PeerFailedError(f"{what}: {said[-1][:300]}" if said else what)

    def wait(self) -> None:
        """Until it ends by itself, and no longer: Popen.wait() with a timeout looks every 50 ms.

        Raises PeerFailedError if it ends with an error.
        """
        ending = os.pidfd_open(self._popen.pid)
        try:
            ended, _, _ = select.select([ending], [], [], _PATIENCE_SECONDS)
        finally:
            os.close(ending)
        if not ended:
            raise self.failure("it did not end")
        if code := self._popen.wait():
            raise self.failure(f"it ended with {code}")

    def stop(self) -> None:
        group = self._popen.pid
        for number in (signal.SIGTERM, signal.SIGKILL):  # the group may outlive its leader
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_SECONDS)
        self._errors.close()


class Server(Process):
    """Ready to be connected to once constructed."""

    def __init__(
        self,
        command: Sequence[str],
        endpoint: Endpoint,
        core: int,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__([*command, *endpoint.arguments()], core, environment, pipes=False)
        try:
            self._wait_for(endpoint)
        except BaseException:
            self.stop()
            raise

    def _wait_for(self, endpoint: Endpoint) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(endpoint):
            if not self.running():
                raise self.failure("the server ended at its start")
            if time.monotonic() > deadline:
                raise self.failure("the server did not listen in time")
            time.sleep(0.02)


class Driver(Process):
    """A client process that does one Work after the other."""

    def __init__(
        self,
        command: Sequence[str],
        endpoint: Endpoint,
        core: int,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__([*command, *endpoint.arguments()], core, environment, pipes=True)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def stop(self) -> None:
        super().stop()
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # what was not yet written is of no use now
            self._popen.stdin.close()
        self._reader.join()

    def measure(self, work: Work, server: Server) -> dict[str, Any]:
        """The client's result with `client_cpu` and `server_cpu` in seconds; of works that are
        for memory also `client_bytes` and `server_bytes`, what it grew by. Raises
        PeerFailedError."""
        assert self._popen.stdin is not None
        deadline = time.monotonic() + _PATIENCE_SECONDS + 5 * work.seconds
        try:
            self._popen.stdin.write(work.line() + "\n")
            self._popen.stdin.flush()
        except OSError:
            raise self.failure("the client ended") from None
        sides: dict[str, Process] = {"client": self, "server": server}
        costs: defaultdict[str, float] = defaultdict(float)
        while True:
            answer = self._answer(deadline)
            if "event" not in answer:
                break
            sign = -1 if answer["event"] == "begin" else 1
            for side, process in sides.items():
                costs[f"{side}_cpu"] += sign * process.cpu_seconds()
                if work.kind in OF_MEMORY:
                    costs[f"{side}_bytes"] += sign * process.private_bytes()
        if "error" in answer:
            raise PeerFailedError(answer["error"])
        return {**answer, **costs}

    def _answer(self, deadline: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise self.failure("no answer in time") from None
        if line is None:
            raise self.failure("the client ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process, those that have ended included."""
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:  # it has ended
        return 0.0


def _listens(endpoint: Endpoint) -> bool:
    path = endpoint.unix_path
    address: Any = path if path is not None else (endpoint.host, endpoint.port)
    with socket.socket(socket.AF_INET if path is None else socket.AF_UNIX) as probe:
        return probe.connect_ex(address) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if sys.platform != "linux":
    raise SystemExit("the benchmarks pin processes and read /proc: they need Linux")
