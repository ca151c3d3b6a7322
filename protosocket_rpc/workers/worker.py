"""A worker process: ``python -m protosocket_rpc.workers.worker FD LOOP``, for a supervisor."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final

from protosocket_rpc.forks import leave_to_parent_after_fork, release_socket
from protosocket_rpc.raw import Binding
from protosocket_rpc.service.server import Server
from protosocket_rpc.service.serving import run_loop
from protosocket_rpc.service.signals import LoopSignals
from protosocket_rpc.workers import app
from protosocket_rpc.workers.control import Control
from protosocket_rpc.workers.logs import log_to_stderr
from protosocket_rpc.workers.settings import WorkerSettings

# The exit code of a worker that could not begin to serve.
CANNOT_START: Final = 3


class Inheritance:
    """Sockets that come from the supervisor: for this process, and not for those that it starts.

    One that held a copy might outlive the worker: then the worker's ports would stay taken.

    Args:
        control: what the supervisor speaks through.
        descriptors: of what is to be listened on; closed at the end of the block.
    """

    def __init__(self, control: socket.socket, descriptors: Sequence[int]) -> None:
        self._control = control
        self.listening = [socket.socket(fileno=number) for number in descriptors]
        for sock in (control, *self.listening):
            sock.set_inheritable(False)
        leave_to_parent_after_fork(self)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of them."""
        for sock in (self._control, *self.listening):
            release_socket(sock)

    def __enter__(self) -> Inheritance:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for sock in self.listening:
            sock.close()


class Worker:
    """Serves until its supervisor or a signal says otherwise, or the supervisor is gone."""

    def __init__(self, control: Control, settings: WorkerSettings, server: Server) -> None:
        self._control = control
        self._grace = settings.grace
        self._server = server
        self._signals = LoopSignals()
        self._stops: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._signals.add(number, self._on_signal)
        await self._server.start()
        self._control.send(ready=True)
        listening = loop.create_task(self._listen())
        await self._server.wait_for_termination()
        if self._stops:
            await asyncio.wait(self._stops)
        listening.cancel()
        await asyncio.wait([listening])
        self._control.send(counted=self._server.snapshot())

    def _on_signal(self) -> None:
        self._stop(None if self._stops else self._grace)

    async def _listen(self) -> None:
        while (message := await self._control.receive()) is not None:
            if "stop" in message:
                self._stop(message["stop"])
            elif "count" in message:
                self._control.send(counted=self._server.snapshot())
        self._stop(self._grace)  # nobody is left who could say so

    def _stop(self, grace: float | None) -> None:
        if not self._stops:
            self._control.send(stopping=True)
        self._stops.append(asyncio.get_running_loop().create_task(self._server.stop(grace)))


async def _main(sock: socket.socket) -> int:
    control = await Control.over(sock)
    try:
        start = await control.receive()
        if start is None:
            return CANNOT_START  # the supervisor is gone
        sys.path[:] = start["path"]
        settings = WorkerSettings.from_json(start["settings"])
        sys.argv[:] = [settings.app]
        log_to_stderr(settings.log_level)
        with Inheritance(sock, start["sockets"]) as inheritance:  # before the app may fork
            async with app.serving(settings) as server:
                credentials = app.credentials(settings)
                for each in inheritance.listening:
                    server.add_binding(Binding.of_socket(each), credentials)
                await Worker(control, settings, server).run()
    except app.AppError as error:
        control.send(failed=str(error))
        return CANNOT_START
    finally:
        await control.close()
    return 0


def main() -> int:
    """Serve what the supervisor at the other end says."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload is the supervisor's affair
    descriptor, loop = sys.argv[1:]
    return run_loop(_main(socket.socket(fileno=int(descriptor))), loop)


if __name__ == "__main__":
    raise SystemExit(main())
