"""Several processes that serve the same: one supervisor, and its workers."""

from __future__ import annotations

import asyncio
import os

from protosocket_rpc.errors import UsageError
from protosocket_rpc.workers.settings import WorkerSettings

__all__ = ["WorkerSettings", "run_workers"]


def run_workers(settings: WorkerSettings) -> None:
    """Serve with several processes until told to end: the whole main program of a server.

    SIGTERM and Ctrl-C end the workers with their grace (a second one at once, a third one by
    force); SIGHUP replaces them, without a call that fails. A worker that dies is replaced.

    Raises:
        WorkerFailed: a worker could not begin to serve, before all of them once had.
        OSError: an address cannot be bound.
        ValueError: an address has no known form.
        UsageError: the system has no processes that inherit sockets (Windows).
    """
    if os.name != "posix":
        raise UsageError("workers need a system where processes inherit sockets: not Windows")
    asyncio.run(_run(settings))


async def _run(settings: WorkerSettings) -> None:
    # Not above: a program that has no workers need not import what they take.
    from protosocket_rpc.workers.endpoint import Endpoint
    from protosocket_rpc.workers.listeners import Listeners
    from protosocket_rpc.workers.logs import log_to_stderr
    from protosocket_rpc.workers.supervisor import OnSignals, Supervisor, log

    log_to_stderr(settings.log_level)
    listeners = Listeners(settings.bind, settings.workers)
    supervisor = Supervisor(settings, listeners)
    with OnSignals(supervisor):
        if settings.metrics_bind is None:
            await supervisor.run()
            return
        try:
            endpoint = Endpoint(settings.metrics_bind, supervisor)
        except BaseException:
            listeners.close()
            raise
        log.info("metrics at http://%s/metrics", endpoint.target)
        try:
            await supervisor.run()
        finally:
            await asyncio.to_thread(endpoint.close)
