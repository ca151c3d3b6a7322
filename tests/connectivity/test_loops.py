"""Channels and loops, threads, forks, subprocesses."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from connectivity.service import Stub, serving
from support import ROOT, UvLoop, wait_until

import protosocket_rpc as ps

PROGRAM = ROOT / "tests/connectivity/programs/forks.py"

MakeLoop = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(params=[asyncio.SelectorEventLoop, UvLoop], ids=["asyncio", "uvloop"])
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    make: MakeLoop = request.param
    return make


def run(make_loop: MakeLoop, main: Any) -> Any:
    """As ``asyncio.run``."""
    loop = make_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Server:
    """A server on a thread of its own."""

    def __init__(self) -> None:
        self.target = ""
        self.peers: Counter[str] = Counter()
        self.open = 0
        self._loop = asyncio.SelectorEventLoop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._released = asyncio.Event()
        async with serving(Unary=self._unary) as server:
            self.target = server.target
            self._running = server.server._running
            self._ready.set()
            await self._stop.wait()

    async def _unary(self, request: bytes, context: Any) -> bytes:
        self.peers[context.peer()] += 1
        if request == b"hold":
            await self._released.wait()
        return request

    def release(self) -> None:
        """Let what is held end."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def _until_connections(self, number: int) -> None:
        assert self._running is not None
        while len(self._running.sessions) != number:  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.001)

    def wait_for_connections(self, number: int) -> None:
        """Until the server has as many as that."""
        waiting = asyncio.run_coroutine_threadsafe(self._until_connections(number), self._loop)
        waiting.result(20)

    def __enter__(self) -> Server:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


# -- loops ---------------------------------------------------------------------------------------


def test_a_channel_needs_no_loop_to_be_made(make_loop: MakeLoop) -> None:
    with Server() as server:
        channel = ps.insecure_channel(server.target)
        stub = Stub(channel)
        assert channel.get_state() is ps.ChannelConnectivity.IDLE

        async def main() -> bytes:
            reply: bytes = await stub.unary(b"x")
            return reply

        for _ in range(3):  # one loop after the other, as with several asyncio.run()
            assert run(make_loop, main()) == b"x"
            server.wait_for_connections(0)  # the loop has closed what it had
        assert len(server.peers) == 3


def test_the_state_of_a_closed_loop_is_freed(make_loop: MakeLoop) -> None:
    with Server() as server:
        channel = ps.insecure_channel(server.target)
        loops: list[weakref.ref[Any]] = []

        async def main() -> None:
            loops.append(weakref.ref(channel.connector()))
            await Stub(channel).unary(b"x")

        for _ in range(3):
            run(make_loop, main())
        gc.collect()
        assert [ref() is not None for ref in loops] == [False, False, True]


def test_two_threads_may_forget_the_same_closed_loop() -> None:
    """Each, when it first uses the channel, forgets what belongs to loops that are closed."""
    channel = ps.insecure_channel("localhost:1")

    async def use() -> None:
        channel.connector()

    class Asked(asyncio.SelectorEventLoop):
        """Has the other thread be faster, just when it is asked."""

        others = 0

        def is_closed(self) -> bool:
            closed = super().is_closed()
            if closed and asyncio._get_running_loop() is not None and not self.others:
                self.others += 1
                other = threading.Thread(target=run, args=(asyncio.SelectorEventLoop, use()))
                other.start()
                other.join()
            return closed

    first = Asked()
    first.run_until_complete(use())
    first.close()
    run(asyncio.SelectorEventLoop, use())
    assert first.others == 1


def test_a_call_outside_of_a_loop_says_so() -> None:
    stub = Stub(ps.insecure_channel("localhost:1"))
    with pytest.raises(RuntimeError, match=r"no running event loop: .* asyncio.run\(\)"):
        stub.unary(b"x")


async def test_a_closed_channel_says_so() -> None:
    channel = ps.insecure_channel("localhost:1")
    await channel.close()
    with pytest.raises(ps.UsageError, match="Channel is closed"):
        Stub(channel).unary(b"x")


async def test_a_server_is_started_once() -> None:
    async with serving() as server:
        with pytest.raises(ps.UsageError, match="was started before"):
            await server.server.start()


async def test_a_dropped_channel_closes_its_connections() -> None:
    async with serving() as server:
        assert await Stub(ps.insecure_channel(server.target)).unary(b"x") == b"x"
        gc.collect()
        running = server.server._running
        assert running is not None
        await wait_until(lambda: not running.sessions)


async def test_a_call_keeps_its_channel() -> None:
    release = asyncio.Event()

    async def slow(request: bytes, context: Any) -> bytes:
        await release.wait()
        return request

    async with serving(Unary=slow) as server:
        call = Stub(ps.insecure_channel(server.target)).unary(b"x")
        await call.wait_for_connection()
        gc.collect()
        release.set()
        assert await call == b"x"


# -- threads -------------------------------------------------------------------------------------


def test_threads_share_a_channel(make_loop: MakeLoop) -> None:
    threads = 4
    with Server() as server:
        channel = ps.insecure_channel(server.target)
        stub = Stub(channel)
        together = threading.Barrier(threads)

        async def main(name: int) -> None:
            await stub.unary(b"")
            together.wait()  # all are connected, and none has ended
            for number in range(200):
                text = b"%d-%d" % (name, number)
                assert await stub.unary(text) == text

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda name: run(make_loop, main(name)), range(threads)))
        assert len(server.peers) == threads
        assert set(server.peers.values()) == {201}
        server.wait_for_connections(0)


def test_close_reaches_the_loops_of_other_threads(make_loop: MakeLoop) -> None:
    with Server() as server:
        channel = ps.insecure_channel(server.target)
        connected = threading.Barrier(3)
        outcomes: list[BaseException] = []

        async def hold() -> None:
            call = Stub(channel).unary(b"hold")
            await call.wait_for_connection()
            connected.wait()
            try:
                await call
            except BaseException as error:
                outcomes.append(error)

        async def main() -> None:
            await Stub(channel).unary(b"x")
            await asyncio.get_running_loop().run_in_executor(None, connected.wait)
            await channel.close()

        with ThreadPoolExecutor(2) as pool:
            holders = [pool.submit(run, make_loop, hold()) for _ in range(2)]
            run(make_loop, main())
            for holder in holders:
                holder.result()
        assert [type(error) for error in outcomes] == [asyncio.CancelledError] * 2
        server.wait_for_connections(0)


def test_close_gives_the_loops_of_other_threads_its_grace(make_loop: MakeLoop) -> None:
    with Server() as server:
        channel = ps.insecure_channel(server.target)
        connected = threading.Barrier(2)

        async def hold() -> bytes:
            call = Stub(channel).unary(b"hold")
            await call.wait_for_connection()
            connected.wait()
            return await call

        async def main() -> None:
            await asyncio.get_running_loop().run_in_executor(None, connected.wait)
            closing = asyncio.ensure_future(channel.close(30.0))
            await asyncio.wait([closing], timeout=0.05)
            assert not closing.done()
            server.release()
            await closing

        with ThreadPoolExecutor(1) as pool:
            holder = pool.submit(run, make_loop, hold())
            run(make_loop, main())
            assert holder.result() == b"hold"
        server.wait_for_connections(0)


# -- forks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "derived"])
@pytest.mark.parametrize("case", ["multiprocessing", "preload", "same-loop", "in-handler"])
def test_forked_children_have_connections_of_their_own(case: str, loop: str) -> None:
    with Server() as server:
        done = subprocess.run(
            [sys.executable, PROGRAM, case, loop, server.target],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix"])
async def test_children_of_a_server_hold_neither_connections_nor_ports(
    address: str, socket_dir: Path
) -> None:
    """Workers of a process pool, say, which live on when the server has ended."""
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    if address == "unix":
        address = f"unix:{socket_dir / 'socket'}"

    async def handler(request: bytes, context: Any) -> bytes:
        loop = asyncio.get_running_loop()
        return str(await loop.run_in_executor(pool, os.getpid)).encode()

    with pool:
        async with (
            serving(address, Unary=handler) as server,
            ps.insecure_channel(server.target) as channel,
        ):
            assert int(await Stub(channel).unary(b"")) != os.getpid()
            (session,) = server.server._running.sessions  # type: ignore[union-attr]  # it runs
            session.sender().abort(ConnectionError("for the test"))
            await channel.wait_for_state_change(ps.ChannelConnectivity.READY)
            assert await Stub(channel).unary(b"", wait_for_ready=True)
        async with (
            serving(server.target, Unary=handler) as again,  # the address is free
            ps.insecure_channel(again.target) as channel,
        ):
            assert await Stub(channel).unary(b"")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_child_does_not_keep_its_parents_connection_open(loop: str) -> None:
    with (
        Server() as server,
        subprocess.Popen(
            [sys.executable, PROGRAM, "lost-with-parent", loop, server.target],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as program,
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stdout.readline() == "closed\n"
        server.wait_for_connections(0)
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "done\n"
        assert program.wait(20) == 0


# -- subprocesses --------------------------------------------------------------------------------


async def test_subprocesses_in_a_handler() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('from afar')", stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return output

    async with serving(Unary=handler) as server, ps.insecure_channel(server.target) as channel:
        stub = Stub(channel)
        assert await asyncio.gather(stub.unary(b""), stub.unary(b"")) == [b"from afar\n"] * 2


async def test_blocking_subprocesses_in_a_handler() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        command = [sys.executable, "-c", "print('from afar')"]
        return subprocess.run(command, capture_output=True, check=True).stdout  # noqa: ASYNC221  # the point

    async with serving(Unary=handler) as server, ps.insecure_channel(server.target) as channel:
        assert await Stub(channel).unary(b"") == b"from afar\n"


async def test_a_subprocess_holds_neither_connections_nor_ports() -> None:
    processes: list[asyncio.subprocess.Process] = []

    async def handler(request: bytes, context: Any) -> bytes:
        processes.append(
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
            )
        )
        return b""

    async with serving(Unary=handler) as server:
        async with ps.insecure_channel(server.target) as channel:
            await Stub(channel).unary(b"")
            await server.server.stop()
            await channel.wait_for_state_change(ps.ChannelConnectivity.READY)  # it has seen the end
        async with serving(server.target, Unary=handler):
            pass  # the port is free
    for process in processes:
        await process.communicate(b"\n")
