"""Serving until a signal says otherwise: SIGTERM and Ctrl-C end a server gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from protosocket_rpc.service.signals import LoopSignals

if TYPE_CHECKING:
    from protosocket_rpc.service.server import Server

Result = TypeVar("Result")

_log = logging.getLogger("protosocket_rpc.server")

# Seconds; orchestrators kill a process 30 seconds after they have asked it to end.
DEFAULT_GRACE: Final = 25.0


class Stoppable(Protocol):
    """A server, or several in one."""

    async def stop(self, grace: float | None = None) -> None: ...


def run(server: Server, *, grace: float | None = DEFAULT_GRACE) -> None:
    """Serve until the process is told to end: the whole main program of a server.

    Runs an event loop (uvloop's, if it is installed) with `Server.serve_forever`.

    Args:
        server: with its services and ports added, and not started.
        grace: seconds that RPCs in flight have to end; None for none at all.
    """
    run_loop(server.serve_forever(grace))


def run_loop(main: Coroutine[Any, Any, Result], loop: str = "auto") -> Result:
    """Run a main coroutine on an event loop of its own.

    Args:
        loop: "auto" for uvloop if it is installed, "uvloop", or "asyncio".

    Raises:
        ImportError: uvloop is asked for, and is not installed.
    """
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:  # not on every platform
            if loop == "uvloop":
                main.close()
                raise
        else:
            result: Result = uvloop.run(main)
            return result
    return asyncio.run(main)


class StopOnSignal:
    """While entered, SIGTERM and SIGINT stop a server; off the main thread there are no signals.

    The first signal stops it with `grace`, the second one at once, and a third one has its usual
    effect.
    """

    def __init__(self, server: Stoppable, grace: float | None) -> None:
        self._server = server
        self._grace = grace
        self._loop = asyncio.get_running_loop()
        self._stops: list[asyncio.Task[None]] = []
        self._signals = LoopSignals()

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the task
                    self._signals.add(number, self._on_signal, number)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._signals.remove()

    def _on_signal(self, number: signal.Signals) -> None:
        grace = self._grace
        if not self._stops:
            _log.info("%s: stopping, with %s seconds of grace", number.name, grace)
        else:
            _log.info("%s again: stopping at once", number.name)
            grace = None
            self.__exit__()
        self._stops.append(self._loop.create_task(self._server.stop(grace)))

    async def wait_stopped(self) -> None:
        """Wait until what signals have begun is done."""
        if self._stops:
            await asyncio.wait(self._stops)
