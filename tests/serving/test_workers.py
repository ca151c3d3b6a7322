"""Workers come and go, and callers do not notice: real processes, under load."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from serving.command import PROGRAMS, Command, calling, command, http_get
from support import Certificates, wait_until

import protosocket_rpc as ps
from protosocket_rpc.workers import listeners
from protosocket_rpc.workers.process import WorkerProcess
from protosocket_rpc.workers.supervisor import Supervisor

# The callers' loop does not matter here: that of the workers does.
pytestmark = [pytest.mark.timeout(180), pytest.mark.asyncio(loop_factories=["uvloop"])]

ANY = ("--host", "127.0.0.1", "--port", "0")


async def pids(target: str, count: int) -> set[int]:
    """Connect until so many workers have answered."""
    seen: set[int] = set()
    while len(seen) < count:
        async with calling(target) as stub:
            seen.add(await stub.pid())
    return seen


class Load:
    """Calls all the time, on connections old and new; none may fail."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.calls = 0
        self.pids: set[int] = set()
        self.failures: list[BaseException] = []
        self._done = False
        self._tasks: list[asyncio.Task[None]] = []

    async def _on_one_connection(self, stub: Any) -> None:
        while not self._done:
            await self._try(stub.pid())

    async def _streams(self, stub: Any) -> None:
        while not self._done:
            await self._try(self._stream(stub))

    async def _stream(self, stub: Any) -> int:
        replies = [int(reply) async for reply in stub.replies(b"5", timeout=30)]
        assert len(replies) == 5
        return replies[0]

    async def _on_new_connections(self) -> None:
        while not self._done:
            async with calling(self.target) as stub:
                await self._try(stub.pid())

    async def _try(self, call: Any) -> None:
        try:
            self.pids.add(await call)
            self.calls += 1
        except Exception as error:
            self.failures.append(error)

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[Load]:
        async with calling(self.target) as one, calling(self.target, connections=4) as several:
            for main in (
                *[self._on_one_connection(stub) for stub in (one, several) for _ in range(4)],
                *[self._streams(stub) for stub in (one, several)],
                *[self._on_new_connections() for _ in range(4)],
            ):
                self._tasks.append(asyncio.ensure_future(main))
            try:
                await self.more()
                yield self
                await self.more()
            finally:
                self._done = True
                await asyncio.gather(*self._tasks)
        assert not self.failures

    async def more(self) -> None:
        """Wait for a number of further calls."""
        before = self.calls
        await wait_until(lambda: self.calls >= before + 200 or self.failures)


@pytest.mark.skipif(not listeners.SPREADS, reason="connections are not spread by this system")
async def test_calls_are_spread_over_the_workers() -> None:
    async with command("app:server", "--workers", "3", *ANY) as server:
        assert len(await pids(await server.serves(), 3)) == 3


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_reload_replaces_all_workers_and_no_call_fails(loop: str) -> None:
    async with command("app:server", "--workers", "2", "--loop", loop, *ANY) as server:
        target = await server.serves()
        before = await pids(target, 2)
        async with Load(target).going_on() as load:
            for _ in range(3):
                server.send(signal.SIGHUP)
                await server.said("reloaded")
                await load.more()
        assert not (await pids(target, 2)) & before
        assert len(load.pids) > 4


async def test_a_reload_on_a_unix_socket(socket_dir: Path) -> None:
    target = f"unix:{socket_dir / 'socket'}"
    async with command("app:server", "--workers", "2", "--uds", socket_dir / "socket") as server:
        await server.serves()
        async with Load(target).going_on():
            server.send(signal.SIGHUP)
            await server.said("reloaded")
        assert (socket_dir / "socket").exists()
    assert not (socket_dir / "socket").exists()


async def test_reloads_that_are_asked_for_meanwhile() -> None:
    async with command("app:server", *ANY) as server:
        await server.serves()
        server.send(signal.SIGHUP)
        await server.said("reloading")
        server.send(signal.SIGHUP)
        server.send(signal.SIGHUP)
        await server.said("reloaded")
        await server.said("reloaded")


async def test_a_reload_takes_new_code_and_lets_long_calls_end(tmp_path: Path) -> None:
    module = tmp_path / "changing.py"
    template = (
        "import asyncio, protosocket_rpc as ps\n"
        "class Servicer:\n"
        "    __protosocket_service__ = ps.ServiceDescriptor('test.Serving', (\n"
        "        ps.UnaryUnaryMethod('/test.Serving/Unary', ps.BYTES, ps.BYTES),))\n"
        "    async def Unary(self, request, context):\n"
        "        await asyncio.sleep(float(request or 0))\n"
        "        return b'{}'\n"
    )
    module.write_text(template.format("old"))
    async with command("changing:Servicer", *ANY, "--app-dir", tmp_path) as server:
        target = await server.serves()
        async with calling(target) as stub:
            assert await stub.unary(b"") == b"old"
            long = stub.unary(b"2", timeout=60)
            await stub.begun(long)
            module.write_text(template.format("new") + "# longer, so that it is compiled anew\n")
            server.send(signal.SIGHUP)
            await server.said("reloaded")
            replies = set()
            while b"new" not in replies:  # what waited for the old one may still be served by it
                async with calling(target) as other:
                    replies.add(await other.unary(b""))
            assert await long == b"old"


async def test_a_reload_that_fails_leaves_the_workers_at_work(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    async with command("app:dies_unless_there", *ANY, ALIVE=str(alive)) as server:
        target = await server.serves()
        async with calling(target) as stub:
            pid = await stub.pid()
            alive.unlink()
            server.send(signal.SIGHUP)
            await server.said(r"no reload.*exit code 9")
            assert await stub.pid() == pid
            alive.touch()
            server.send(signal.SIGHUP)
            await server.said("reloaded")
            await wait_until_async(stub, lambda now: now != pid)


async def wait_until_async(stub: Any, condition: Any) -> None:
    while not condition(await stub.pid()):
        pass


async def test_a_worker_that_dies_is_replaced() -> None:
    async with command("app:server", "--workers", "2", *ANY) as server:
        target = await server.serves()
        victim, other = await pids(target, 2)
        os.kill(victim, signal.SIGKILL)
        await server.said(rf"pid {victim}, leaves unasked")
        new = int((await server.said(r"worker \d serves, pid (\d+)"))[1])
        assert await pids(target, 2) == {other, new}


@pytest.mark.parametrize("how", ["fork", "spawn", "forked before"])
async def test_children_of_a_worker_that_live_on_stand_in_nobodys_way(how: str) -> None:
    """They have copies of the worker's descriptors, unless it sees to it."""
    async with command("app:forks" if how == "forked before" else "app:server", *ANY) as server:
        target = await server.serves()
        async with calling(target) as stub:
            worker = await stub.pid()
            children = [int(await stub.unary(how.encode(), timeout=30))]
        try:
            os.kill(worker, signal.SIGKILL)
            await server.said(r"worker 0 serves")
            async with calling(target) as stub:
                assert await stub.pid() != worker
                children.append(int(await stub.unary(how.encode(), timeout=30)))
            server.send(signal.SIGTERM)
            assert await server.process.wait() == 0
            for child in children:
                os.kill(child, 0)  # it is there
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*target.split(":"))
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)


async def test_a_worker_that_is_told_to_end_drains_while_another_serves() -> None:
    async with command("app:server", *ANY) as server:
        target = await server.serves()
        async with calling(target) as stub:
            pid = await stub.pid()
            long = stub.unary(b"sleep 2", timeout=60)
            await stub.begun(long)
            async with Load(target).going_on():
                os.kill(pid, signal.SIGTERM)
                await server.said(r"worker \d serves")
            assert int(await long) == pid


async def test_a_worker_that_hangs_up_is_replaced_and_its_calls_end() -> None:
    async with command("app:server", *ANY) as server, calling(await server.serves()) as stub:
        pid = await stub.pid()
        long = stub.unary(b"sleep 1", timeout=60)
        await stub.begun(long)
        assert int(await stub.unary(b"hang up", timeout=30)) == pid
        await server.said(rf"pid {pid}, leaves unasked")
        assert int((await server.said(r"worker 0 serves, pid (\d+)"))[1]) != pid
        assert int(await long) == pid
        assert await stub.pid() != pid


async def test_a_worker_may_be_told_a_shorter_grace() -> None:
    settings = ps.WorkerSettings("app:server")
    sockets = listeners.Listeners(("127.0.0.1:0",), settings.workers)
    (target,) = sockets.targets
    worker = await WorkerProcess.start(settings, sockets.of(0), [str(PROGRAMS), *sys.path])
    try:
        await worker.wait_ready(60)
        async with calling(target) as stub:
            long = stub.unary(b"sleep 3600")
            await stub.begun(long)
            worker.stop(3600)
            worker.stop(0.2)
            with pytest.raises(ps.AioRpcError, match="shutting down"):
                await long
        assert await worker.wait(60) == 0
    finally:
        worker.kill()
        await worker.wait()
        sockets.close()


async def test_a_worker_that_dies_again_and_again_is_started_ever_later(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    async with command("app:dies_unless_there", *ANY, ALIVE=str(alive)) as server:
        target = await server.serves()
        (pid,) = await pids(target, 1)
        alive.unlink()
        os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            await server.said(r"cannot be replaced yet.*exit code 9")
        alive.touch()
        async with calling(target) as stub:  # whoever connected meanwhile has waited
            assert await stub.pid() != pid


async def test_a_worker_that_hangs_before_it_serves_does_not_hold_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alive = tmp_path / "alive"
    alive.touch()
    monkeypatch.setenv("ALIVE", str(alive))
    settings = ps.WorkerSettings(
        "app:hangs_unless_there", bind=("127.0.0.1:0",), app_dir=str(PROGRAMS)
    )
    sockets = listeners.Listeners(settings.bind, settings.workers)
    (target,) = sockets.targets
    supervisor = Supervisor(settings, sockets)
    running = asyncio.ensure_future(supervisor.run())
    try:
        await wait_until(lambda: supervisor.ready)
        old = await pids(target, 1)
        alive.unlink()
        supervisor.settings = replace(settings, start_timeout=0.5)
        supervisor.reload()
        await wait_until(lambda: "no reload" in caplog.text)
        assert "it was not ready within 0.5 seconds" in caplog.text
        assert await pids(target, 1) == old
        alive.touch()
        supervisor.settings = settings
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: supervisor.restarts)
        assert await pids(target, 1) != old
        supervisor.reload()
        await wait_until(lambda: supervisor.reloads)
    finally:
        supervisor.stop()
        await running


async def test_workers_do_not_outlive_a_supervisor_that_is_killed() -> None:
    async with command("app:cleans_up", "--workers", "2", *ANY) as server:
        target = await server.serves()
        async with calling(target) as stub:
            await stub.pid()
            long = stub.unary(b"sleep 1", timeout=60)
            await stub.begun(long)
            server.send(signal.SIGKILL)
            assert await server.process.wait() == -signal.SIGKILL
            assert int(await long) > 0  # they end gracefully, too
            assert await server.ended() == -signal.SIGKILL  # and have let go of the log
    assert server.output.count("cleaned up") == 2


class TestTheEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_calls_in_flight_end_first(self, number: signal.Signals) -> None:
        async with command("app:cleans_up", "--workers", "2", *ANY) as server:
            target = await server.serves()
            async with calling(target) as stub:
                await stub.pid()
                long = stub.unary(b"sleep 1", timeout=60)
                await stub.begun(long)
                server.send(number)
                await server.said("stopping")
                assert int(await long) > 0
            assert await server.ended() == 0
        assert server.output.count("cleaned up") == 2

    async def test_a_second_signal_cuts_the_grace_short(self) -> None:
        async with command("app:cleans_up", *ANY) as server:
            target = await server.serves()
            async with calling(target) as stub:
                long = stub.unary(b"sleep 300")
                await stub.begun(long)
                server.send(signal.SIGTERM)
                await server.said("stopping, with 25.0 seconds")
                server.send(signal.SIGTERM)
                with pytest.raises(ps.AioRpcError) as caught:
                    await long
                assert caught.value.code() is ps.StatusCode.UNAVAILABLE
            assert await server.ended() == 0
        assert server.output.count("cleaned up") == 1

    async def test_the_grace_is_kept(self) -> None:
        async with command("app:server", *ANY, "--grace", "0.2") as server:
            target = await server.serves()
            async with calling(target) as stub:
                long = stub.unary(b"sleep 300")
                await stub.begun(long)
                server.send(signal.SIGTERM)
                with pytest.raises(ps.AioRpcError):
                    await long
            assert await server.ended() == 0

    async def test_before_it_has_begun(self) -> None:
        async with command("app:server", "--workers", "4", *ANY) as server:
            await server.said("worker . serves")
            server.send(signal.SIGTERM)
            assert await server.ended() == 0

    async def test_while_it_reloads(self) -> None:
        async with command("app:server", "--workers", "2", *ANY) as server:
            await server.serves()
            server.send(signal.SIGHUP)
            await server.said("reloading")
            server.send(signal.SIGTERM)
            assert await server.ended() == 0

    async def test_though_a_worker_says_more_than_is_heard(self) -> None:
        program = (
            "import protosocket_rpc as ps\n"
            "from protosocket_rpc.workers import control\n"
            "control._LONGEST = 40  # bytes; what it has counted is more\n"
            "ps.run_workers(ps.WorkerSettings('app:server', bind=('127.0.0.1:0',), "
            f"log_level='info', app_dir={str(PROGRAMS)!r}))\n"
        )
        async with command(program=("-c", program)) as server:
            await server.serves()
            server.send(signal.SIGTERM)
            assert await server.ended() == 0


# -- metrics ---------------------------------------------------------------------------------


async def handled(target: str) -> dict[str, int]:
    """How many calls of the unary method have ended, by code."""
    _, text = await http_get(target, "/metrics")
    pattern = (
        r'^protosocket_server_handled_total\{method="/test.Serving/Unary",code="(\w+)"\} (\d+)$'
    )
    return {code: int(count) for code, count in re.findall(pattern, text, re.MULTILINE)}


def value(text: str, name: str) -> int:
    found = re.search(rf"^protosocket_{name} (\d+)$", text, re.MULTILINE)
    assert found, text
    return int(found[1])


async def test_one_view_of_all_workers() -> None:
    async with command(
        "app:server", "--workers", "2", *ANY, "--metrics-bind", "127.0.0.1:0"
    ) as server:
        metrics = await server.metrics_target()
        target = await server.serves()
        assert await http_get(metrics, "/ready") == (200, "ready\n")
        assert (await http_get(metrics, "/else"))[0] == 404
        calls = 0
        seen: set[int] = set()
        while len(seen) < 2:
            async with calling(target) as stub:
                seen.add(await stub.pid())
                calls += 1
        async with calling(target) as stub:
            with pytest.raises(ps.AioRpcError):
                await stub.unary(b"fail")
            assert await handled(metrics) == {"OK": calls, "NOT_FOUND": 1}
            held = stub.unary(b"sleep 300")
            await held.wait_for_connection()
            await wait_until_metric(metrics, "server_in_flight", 1)
            held.cancel()
            await wait_until_metric(metrics, "server_in_flight", 0)
        # What those have counted that are gone is not lost.
        server.send(signal.SIGHUP)
        await server.said("reloaded")
        counts = await handled(metrics)
        assert counts == {"OK": calls, "NOT_FOUND": 1, "CANCELLED": 1}
        for pid in await pids(target, 2):
            os.kill(pid, signal.SIGTERM)
            await server.said(rf"worker pid {pid} ended")
        text = (await http_get(metrics, "/metrics"))[1]
        assert (await handled(metrics))["OK"] > calls
        assert value(text, "reloads_total") == 1
        assert value(text, "workers") == 2
        await wait_until_metric(metrics, "worker_restarts_total", 2)
        await wait_until_metric(metrics, "workers_ready", 2)


async def wait_until_metric(target: str, name: str, expected: int) -> None:
    while value((await http_get(target, "/metrics"))[1], name) != expected:
        pass


# -- how it is served --------------------------------------------------------------------------


async def ask(server: Command, question: str) -> bytes:
    async with calling(await server.serves()) as stub:
        reply: bytes = await stub.unary(question.encode(), timeout=30)
        return reply


@pytest.mark.parametrize(("loop", "module"), [("asyncio", b"asyncio"), ("uvloop", b"uvloop")])
async def test_the_loop(loop: str, module: bytes) -> None:
    async with command("app:server", *ANY, "--loop", loop) as server:
        assert (await ask(server, "loop")).startswith(module)


async def test_busy_polling() -> None:
    async with command("app:server", *ANY, "--busy-poll", "150") as server:
        assert await ask(server, "polls") == b"0.00015"


async def test_a_pool_of_forked_processes() -> None:
    """It ends them by SIGTERM, and waits for them."""
    async with command("app:server", *ANY) as server:
        assert await ask(server, "pool") == repr(signal.SIG_DFL).encode()


async def test_tls_and_clients_with_certificates(certificates: Certificates) -> None:
    async with command(
        *("app:server", *ANY, "--tls-cert", certificates.server_chain),
        *("--tls-key", certificates.server_key, "--client-ca", certificates.authority),
    ) as server:
        port = (await server.serves()).rpartition(":")[2]
        context = certificates.client_context(with_certificate=True)
        async with ps.secure_channel(f"localhost:{port}", context) as channel:
            call = channel.unary_unary("/test.Serving/Unary")
            assert await call(b"name", timeout=30) == b"client"
        async with ps.secure_channel(f"localhost:{port}", certificates.client_context()) as channel:
            with pytest.raises(ps.AioRpcError):
                await channel.unary_unary("/test.Serving/Unary")(b"name", timeout=30)


async def test_several_addresses(socket_dir: Path) -> None:
    path = socket_dir / "socket"
    async with command(
        "app:server", "-b", "127.0.0.1:0", "-b", f"unix:{path}", "--workers", "2"
    ) as server:
        first = await server.serves()
        for target in (first, f"unix:{path}"):
            async with calling(target) as stub:
                assert await stub.pid()
