"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

from protosocket_rpc.service.metrics import Snapshot, empty_snapshot
from protosocket_rpc.workers.control import Control
from protosocket_rpc.workers.settings import WorkerSettings

# Seconds to hear the last words of a process that has ended. A process that it has started may have
# a copy of its end of the control socket: then there is no end of them.
_LAST_WORDS: Final = 1.0


class WorkerFailed(Exception):
    """A worker could not begin to serve. The text says why."""


class WorkerProcess:
    """A worker, from its start to its end. Made by `start`.

    Attributes:
        pid: its process.
        ready: it serves, or did.
        leaving: set when it accepts no more: it was told to stop, or does so by itself, is gone, or
            cannot be told any more.
        began: when it was started, in the loop's time.
        counted: what it has said last of what it has counted.
    """

    def __init__(self, process: asyncio.subprocess.Process, control: Control) -> None:
        loop = asyncio.get_running_loop()
        self._process = process
        self._control = control
        self._readiness: asyncio.Future[None] = loop.create_future()
        self._counting: list[asyncio.Future[None]] = []
        self._why = ""  # it cannot serve, by its own words
        self.pid = process.pid
        self.ready = False
        self.leaving = asyncio.Event()
        self.began = loop.time()
        self.counted = empty_snapshot()
        self._hearing = loop.create_task(self._hear())
        self._end = loop.create_task(self._follow())

    @classmethod
    async def start(
        cls, settings: WorkerSettings, sockets: Sequence[socket.socket], path: Sequence[str]
    ) -> WorkerProcess:
        """Start one. It is not ready yet.

        Args:
            sockets: for it to serve.
            path: its sys.path.
        """
        mine, its = socket.socketpair()
        descriptors = [sock.fileno() for sock in sockets]
        with its:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # no stub
                "-m",
                "protosocket_rpc.workers.worker",
                str(its.fileno()),
                settings.loop,
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno(), *descriptors],
                start_new_session=True,  # Ctrl-C is for the supervisor to pass on
            )
        control = await Control.over(mine)
        control.send(settings=settings.to_json(), sockets=descriptors, path=list(path))
        return cls(process, control)

    async def _follow(self) -> int:
        """Wait for its end. Returns its exit code, or the negative of a signal."""
        code = await self._process.wait()
        self.leaving.set()
        await asyncio.wait([self._hearing], timeout=_LAST_WORDS)
        self._hearing.cancel()
        await asyncio.wait([self._hearing])
        why = self._why or f"it ended ({describe(code)}) before it was ready"
        self._settle(WorkerFailed(why))
        return code

    async def _hear(self) -> None:
        """Hear what it says, to the end of that."""
        try:
            while (message := await self._control.receive()) is not None:
                self._on_message(message)
        finally:
            self.leaving.set()
            self._wake_counting()
            self._control.abort()

    def _on_message(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.ready = True
            self._settle(None)
        elif "failed" in message:
            self._why = message["failed"]
        elif "stopping" in message:
            self.leaving.set()
        elif "counted" in message:
            self.counted = message["counted"]
            self._wake_counting()

    def _settle(self, error: WorkerFailed | None) -> None:
        if not self._readiness.done():
            if error is None:
                self._readiness.set_result(None)
            else:
                self._readiness.set_exception(error)
                self._readiness.exception()  # nobody may want to know

    def _wake_counting(self) -> None:
        counting, self._counting = self._counting, []
        for waiter in counting:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_ready(self, timeout: float | None) -> None:
        """Wait until it serves.

        Raises:
            WorkerFailed: it never will.
            asyncio.TimeoutError: it does not yet after so many seconds.
        """
        await asyncio.wait_for(asyncio.shield(self._readiness), timeout)

    async def wait(self, timeout: float | None = None) -> int:
        """Wait until its process has ended, and what it said was heard; its exit code.

        Raises:
            asyncio.TimeoutError: it has not within so many seconds.
        """
        return await asyncio.wait_for(asyncio.shield(self._end), timeout)

    async def count(self, timeout: float) -> Snapshot:
        """What it has counted: now, or when it last said so if it does not answer."""
        if self.ready and not self._hearing.done():
            waiter = asyncio.get_running_loop().create_future()
            self._counting.append(waiter)
            self._control.send(count=True)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(waiter, timeout)
        return self.counted

    def stop(self, grace: float | None) -> None:
        """Tell it to stop, gracefully; if it is told so already, with another grace."""
        if self.ready:
            self.leaving.set()
            self._control.send(stop=grace)
        else:
            self._signal("terminate")

    def kill(self) -> None:
        """End it at once."""
        self._signal("kill")

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            getattr(self._process, name)()


def describe(code: int) -> str:
    """An exit code, for people."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
