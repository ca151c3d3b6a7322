"""Apps for ``protosocket serve``, in all the forms that there are."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import protosocket_rpc as ps

UNARY = ps.UnaryUnaryMethod("/test.Serving/Unary", ps.BYTES, ps.BYTES)
REPLIES = ps.UnaryStreamMethod("/test.Serving/Replies", ps.BYTES, ps.BYTES)
SERVICE = ps.ServiceDescriptor("test.Serving", (UNARY, REPLIES))


class Servicer:
    """Does what the request says; answers with its process's id."""

    __protosocket_service__ = SERVICE

    async def Unary(self, request: bytes, context: Any) -> bytes:
        command, _, argument = request.decode().partition(" ")
        if command == "sleep":
            await asyncio.sleep(float(argument))
        elif command == "die":
            os._exit(int(argument))
        elif command == "fork":
            return str(os.fork() or _sleep()).encode()
        elif command == "spawn":
            return str(_spawn()).encode()
        elif command == "forked":
            return str(_forked).encode()
        elif command == "hang":
            _control().shutdown(socket.SHUT_RDWR)
        elif command == "pool":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                return repr(pool.apply(signal.getsignal, (signal.SIGTERM,))).encode()
        elif command == "fail":
            await context.abort(ps.StatusCode.NOT_FOUND, "told to")
        elif command == "loop":
            return type(asyncio.get_running_loop()).__module__.encode()
        elif command == "path":
            return os.pathsep.join(sys.path).encode()
        elif command == "polls":
            return str(context.connection._running.connectivity.busy_poll).encode()
        elif command == "name":
            return b",".join(context.auth_context().get("x509_common_name", []))
        return str(os.getpid()).encode()

    async def Replies(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            yield str(os.getpid()).encode()
            await asyncio.sleep(0.01)


def _sleep() -> int:
    """In a forked child: to its end."""
    while True:
        signal.pause()


def _control() -> Any:
    """What the supervisor speaks through."""
    (sock,) = [each._control for each in gc.get_objects() if type(each).__name__ == "Inheritance"]
    return sock


def _spawn() -> int:
    return os.posix_spawn("/bin/sleep", ["sleep", "600"], {})


servicer = Servicer()
servicers = [servicer]


def make_server() -> ps.Server:
    server = ps.server()
    server.add(servicer)
    return server


server = make_server()


async def make_later() -> Servicer:
    await asyncio.sleep(0)
    return servicer


@asynccontextmanager
async def cleans_up() -> AsyncIterator[ps.Server]:
    print("begun", flush=True)
    try:
        yield make_server()
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)


class Callable:
    def __call__(self) -> ps.Server:
        return make_server()


callable_object = Callable()


class Nested:
    server = server


def with_port() -> ps.Server:
    made = make_server()
    made.add_insecure_port("127.0.0.1:0")
    return made


def fails() -> ps.Server:
    raise ZeroDivisionError("the factory's own")


_forked = 0


def forks() -> ps.Server:
    global _forked
    _forked = os.fork() or _sleep()
    return make_server()


def dies_unless_there() -> ps.Server:
    """Begins to serve only while a file is there, and dies without a word else."""
    if not os.path.exists(os.environ["ALIVE"]):
        os._exit(9)
    return make_server()


def hangs_unless_there() -> ps.Server:
    """Begins to serve only while a file is there, and hangs else."""
    while not os.path.exists(os.environ["ALIVE"]):
        time.sleep(600)
    return make_server()


number = 42
