"""A channel that is used before a fork, and after it on both sides: ``forks.py CASE TARGET``.

Cases: ``multiprocessing`` and ``preload`` make loops of their own in the children, ``same-loop``
goes on with the loop that the parent used, ``in-handler`` forks while the loop runs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from typing import Any

import pytest
import uvloop

import protosocket_rpc as ps
from tests.connectivity.service import Stub

CASE, LOOP, TARGET = sys.argv[1:]


class Derived(uvloop.Loop):
    """A loop of a program's own."""


LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop, "derived": Derived}
make_loop: Any = LOOPS[LOOP]

channel = ps.insecure_channel(TARGET)
stub = Stub(channel)


async def call(text: str) -> bytes:
    reply: bytes = await stub.unary(text.encode(), timeout=20)
    return reply


def run(main: Any) -> Any:
    """A loop of its own, as ``asyncio.run``."""
    loop = make_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def wait_for(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"


def fork(child: Any) -> int:
    """Run `child` in a child, that ends with it."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        child()
        status = 0
    finally:
        os._exit(status)


def child(name: str) -> None:
    for number in range(3):
        assert run(call(f"{name}{number}")) == f"{name}{number}".encode()


def case_multiprocessing() -> None:
    context = multiprocessing.get_context("fork")
    loop = make_loop()
    assert loop.run_until_complete(call("before")) == b"before"
    processes = [context.Process(target=child, args=(f"child{n}-",)) for n in range(3)]
    for process in processes:
        process.start()
    for number in range(10):  # on the connection that was open when they were forked
        assert loop.run_until_complete(call(f"parent{number}")) == b"parent%d" % number
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert loop.run_until_complete(call("after")) == b"after"
    loop.run_until_complete(channel.close())
    loop.close()


def case_preload() -> None:
    """As gunicorn does it: the program is loaded, and used, and its workers are forked then."""
    assert run(call("preload")) == b"preload"
    for pid in [fork(lambda: child("worker")) for _ in range(3)]:
        wait_for(pid)
    assert run(call("after")) == b"after"


def case_same_loop() -> None:
    loop = make_loop()
    assert loop.run_until_complete(call("before")) == b"before"

    def go_on() -> None:
        if LOOP != "asyncio":  # uvloop, which does not survive that, whatever a channel does
            with pytest.raises(ps.UsageError, match="run a new loop"):
                loop.run_until_complete(call("child"))
            child("child")
            return
        for number in range(3):
            assert loop.run_until_complete(call(f"child{number}")) == b"child%d" % number

    pid = fork(go_on)
    if LOOP != "asyncio":  # the child's loop would abort it if it heard of what the parent receives
        wait_for(pid)
    for number in range(10):
        assert loop.run_until_complete(call(f"parent{number}")) == b"parent%d" % number
    if LOOP == "asyncio":
        wait_for(pid)
    assert loop.run_until_complete(call("after")) == b"after"
    loop.run_until_complete(channel.close())
    loop.close()


def case_in_handler() -> None:
    """Forked by a coroutine, with a call in flight."""

    async def main() -> None:
        await call("before")
        waiting = stub.unary(b"hold")
        await waiting.wait_for_connection()
        pid = fork(lambda: child("child"))
        for number in range(10):
            assert await call(f"parent{number}") == b"parent%d" % number
        await asyncio.get_running_loop().run_in_executor(None, wait_for, pid)
        assert not waiting.done()
        waiting.cancel()
        await channel.close()

    run(main())


def case_lost_with_parent() -> None:
    """A child that lives on does not keep the parent's connection open."""
    read, write = os.pipe()
    loop = make_loop()
    assert loop.run_until_complete(call("before")) == b"before"
    pid = fork(lambda: (os.close(write), os.read(read, 1)))
    loop.run_until_complete(channel.close())
    print("closed", flush=True)
    sys.stdin.readline()  # until the server has seen that
    os.close(write)
    wait_for(pid)
    loop.close()


globals()["case_" + CASE.replace("-", "_")]()
print("done", flush=True)
