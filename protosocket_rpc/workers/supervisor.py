"""Keeps a number of workers at work: starts them, replaces them, and ends them.

::

    starting ── ready ──> serving ── told to, or by itself ──> leaving ── ended
        └── failed (a pause, then another)   └── died ── another one starts ──┘
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any, Final

from protosocket_rpc.service.backoff import Backoff
from protosocket_rpc.service.metrics import Snapshot, empty_snapshot, merged
from protosocket_rpc.service.signals import LoopSignals
from protosocket_rpc.workers.listeners import Listeners
from protosocket_rpc.workers.process import WorkerFailed, WorkerProcess, describe
from protosocket_rpc.workers.settings import WorkerSettings

log = logging.getLogger("protosocket_rpc.supervisor")

# Seconds of the pauses before a worker is started again that has died at once, again and again.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
# Seconds after which a worker that dies has not died at once.
_SETTLED: Final = 5.0
# Seconds that a worker has to end beyond its grace; then it is killed.
_PATIENCE: Final = 5.0
# Seconds that a worker has to say what it has counted.
_COUNT_TIMEOUT: Final = 1.0


class _Place:
    """A place among the workers: one serves there at a time, while others come and go."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: WorkerProcess | None = None
        self.changing = asyncio.Lock()
        self.backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)


class Supervisor:
    """Runs the workers of one `WorkerSettings`.

    Attributes:
        restarts: workers that were started because another one had died.
        reloads: reloads that have succeeded.
    """

    def __init__(self, settings: WorkerSettings, listeners: Listeners) -> None:
        """Needs a running event loop.

        Args:
            listeners: with as many places as there are workers. Closed at the end.
        """
        self.settings = settings
        self.restarts = 0
        self.reloads = 0
        self._listeners = listeners
        self._places = [_Place(number) for number in range(settings.workers)]
        self._path = _search_path(settings)
        self._workers: set[WorkerProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reload: asyncio.Task[None] | None = None
        self._reload_again = False
        self._stopping = asyncio.Event()
        self._hurried = False
        self._ending = False
        # Of workers that have ended.
        self._counted = empty_snapshot()

    @property
    def ready(self) -> int:
        """How many places have a worker that serves."""
        return sum(
            place.worker is not None and place.worker.ready and not place.worker.leaving.is_set()
            for place in self._places
        )

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            WorkerFailed: a worker could not begin to serve, before all of them once had.
            OSError: there can be no further process.
        """
        tasks: list[asyncio.Task[Any]] = []
        try:
            stopping = self._spawn(self._stopping.wait())
            tasks = [stopping, *[self._spawn(self._fill(place)) for place in self._places]]
            await _first_failure(tasks[1:], stopping)
            if not stopping.done():
                log.info("%d workers serve %s", self.ready, ", ".join(self._listeners.targets))
                tasks += [self._spawn(self._keep(place)) for place in self._places]
                await stopping
        finally:
            self._ending = True
            self._listeners.close()
            for task in (*tasks, *([self._reload] if self._reload else [])):
                task.cancel()
            self._dismiss_all(self.settings.grace if self._stopping.is_set() else None)
            while self._workers or self._tasks:
                ends = [each.wait() for each in self._workers]
                await asyncio.gather(*ends, *self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """End all workers with their grace; the second time, at once; the third time, by force."""
        if not self._stopping.is_set():
            log.info("stopping, with %s seconds of grace", self.settings.grace)
            self._stopping.set()
        elif not self._hurried:
            log.info("stopping at once")
            self._hurried = True
            self._dismiss_all(None)
        else:
            log.warning("killing %d workers", len(self._workers))
            for worker in self._workers:
                worker.kill()

    def _dismiss_all(self, grace: float | None) -> None:
        for worker in list(self._workers):
            self._dismiss(worker, None if self._hurried else grace)

    def reload(self) -> None:
        """Replace the workers, one place after the other, each once its successor serves."""
        if self._stopping.is_set():
            return
        if self._reload is not None and not self._reload.done():
            self._reload_again = True
        else:
            self._reload = self._spawn(self._replace_all())

    async def _replace_all(self) -> None:
        again = True
        while again:
            log.info("reloading")
            try:
                for place in self._places:
                    await self._fill(place)
            except (WorkerFailed, OSError) as error:
                log.error("no reload, the other workers stay as they are: %s", error)
            else:
                self.reloads += 1
                log.info("reloaded")
            again, self._reload_again = self._reload_again, False

    # -- one place -------------------------------------------------------------------------

    async def _fill(self, place: _Place, after: WorkerProcess | None = None) -> None:
        """Put a new worker into a place; the one that serves there leaves when it is ready.

        Args:
            after: do so only if this one is still there.
        """
        async with place.changing:
            if after is not None and place.worker is not after:
                return
            # Not cancelled: a process that has begun is to be known of.
            worker = await asyncio.shield(self._spawn(self._start(place)))
            try:
                await worker.wait_ready(self.settings.start_timeout)
            except asyncio.TimeoutError:
                why = f"it was not ready within {self.settings.start_timeout} seconds"
                log.error("killing worker %d, pid %d: %s", place.number, worker.pid, why)
                worker.kill()
                raise WorkerFailed(why) from None
            except BaseException:
                self._dismiss(worker, None)
                raise
            log.info("worker %d serves, pid %d", place.number, worker.pid)
            if place.worker is not None:
                self._dismiss(place.worker, self.settings.grace)
            place.worker = worker

    async def _start(self, place: _Place) -> WorkerProcess:
        sockets = self._listeners.of(place.number)
        worker = await WorkerProcess.start(self.settings, sockets, self._path)
        self._workers.add(worker)
        self._spawn(self._see_off(worker))
        if self._ending:
            self._dismiss(worker, None)
        return worker

    async def _keep(self, place: _Place) -> None:
        """Have a worker in a place, whatever becomes of it."""
        loop = asyncio.get_running_loop()
        while True:
            worker = place.worker
            assert worker is not None
            await worker.leaving.wait()
            if worker is not place.worker:
                continue  # it was replaced
            log.warning("worker %d, pid %d, leaves unasked", place.number, worker.pid)
            if loop.time() - worker.began > _SETTLED:
                place.backoff.reset()
            else:
                await asyncio.sleep(place.backoff.next())
            while place.worker is worker:
                await self._refill(place, worker)

    async def _refill(self, place: _Place, worker: WorkerProcess) -> None:
        """Put another worker in the place of one that is gone; pause if it does not serve."""
        try:
            await self._fill(place, after=worker)
        except (WorkerFailed, OSError) as error:
            log.error("worker %d cannot be replaced yet: %s", place.number, error)
            await asyncio.sleep(place.backoff.next())
        else:
            self.restarts += 1

    def _dismiss(self, worker: WorkerProcess, grace: float | None) -> None:
        """Let a worker end, and see to it that it does."""
        worker.stop(grace)
        self._spawn(self._kill_later(worker, (grace or 0.0) + _PATIENCE))

    async def _kill_later(self, worker: WorkerProcess, seconds: float) -> None:
        try:
            await worker.wait(seconds)
        except asyncio.TimeoutError:
            log.warning("killing worker pid %d, which does not end", worker.pid)
            worker.kill()

    async def _see_off(self, worker: WorkerProcess) -> None:
        """Keep what a worker has counted when it has ended."""
        try:
            code = await worker.wait()
        finally:  # whatever happens, nobody is to wait for it any more
            self._workers.discard(worker)
        if code:
            log.warning("worker pid %d ended: %s", worker.pid, describe(code))
        else:
            log.info("worker pid %d ended", worker.pid)
        worker.counted["in_flight"] = worker.counted["connections"] = 0
        self._counted = merged([self._counted, worker.counted])

    async def count(self) -> Snapshot:
        """What all workers have counted, those that have ended included."""
        workers = list(self._workers)
        snapshots = await asyncio.gather(*[each.count(_COUNT_TIMEOUT) for each in workers])
        # Those that have ended meanwhile are part of the sum.
        live = [
            snapshot
            for worker, snapshot in zip(workers, snapshots, strict=True)
            if worker in self._workers
        ]
        return merged([self._counted, *live])

    def _spawn(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(main)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _first_failure(tasks: list[asyncio.Task[Any]], stopping: asyncio.Task[Any]) -> None:
    """Wait until all tasks are done, or `stopping` is. Raises what the first that fails does."""
    waiting: set[asyncio.Task[Any]] = set(tasks)
    while waiting and not stopping.done():
        done, waiting = await asyncio.wait(
            {*waiting, stopping}, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.discard(stopping)
        for task in done:
            task.result()


def _search_path(settings: WorkerSettings) -> list[str]:
    if settings.app_dir is None:
        return list(sys.path)
    return [settings.app_dir, *sys.path]


class OnSignals:
    """While entered: SIGTERM and SIGINT stop a supervisor, SIGHUP has it reload."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._signals = LoopSignals()
        self._actions = {
            signal.SIGTERM: supervisor.stop,
            signal.SIGINT: supervisor.stop,
            signal.SIGHUP: supervisor.reload,
        }

    def __enter__(self) -> None:
        for number, action in self._actions.items():
            self._signals.add(number, action)

    def __exit__(self, *exc_info: object) -> None:
        self._signals.remove()
