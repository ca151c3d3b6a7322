"""A pool of connections: shared, and made again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rpc.notes import Note, connect, serving
from support import server_process, wait_until

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.rpc import ConnectionPool, RpcClient

PROGRAM = Path(__file__).with_name("program.py")


class Connector:
    """Counts attempts; fails when told to, waits when told to."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.attempts = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> RpcClient[Note, Note]:
        self.attempts += 1
        await self.go_on.wait()
        return await connect(self.target)


async def echo(note: Note) -> Note:
    return note


@pytest.fixture
async def connector() -> AsyncIterator[Connector]:
    async with serving(echo) as server:
        yield Connector(server.rpc.target)


async def test_a_connection_is_made_when_it_is_first_needed_and_shared(
    connector: Connector,
) -> None:
    async with ConnectionPool(connector, 1) as pool:
        assert connector.attempts == 0
        first = await pool.get()
        assert await pool.get() is first
        assert connector.attempts == 1
        assert (await first.unary(Note("hello"))).text == "hello"
    assert not first.alive


async def test_equal_keys_have_the_same_connection(connector: Connector) -> None:
    async with ConnectionPool(connector, 4) as pool:
        clients = [await pool.get(key) for key in range(8)]
        assert len(set(clients)) == 4
        assert clients[:4] == clients[4:]
        assert await pool.get("a") is await pool.get("a")
        assert connector.attempts == 4


async def test_without_a_key_any_connection_is_chosen(connector: Connector) -> None:
    async with ConnectionPool(connector, 3) as pool:
        assert len({await pool.get() for _ in range(200)}) == 3


async def test_those_who_wait_share_one_attempt(connector: Connector) -> None:
    async with ConnectionPool(connector, 1) as pool:
        connector.go_on.clear()
        getters = [asyncio.ensure_future(pool.get()) for _ in range(10)]
        await wait_until(lambda: connector.attempts)
        getters[0].cancel()  # which does not end the attempt for the others
        await asyncio.sleep(0)
        connector.go_on.set()
        clients = await asyncio.gather(*getters[1:])
        assert len(set(clients)) == 1
        assert getters[0].cancelled()
        assert connector.attempts == 1


async def test_a_failed_attempt_is_told_to_all_who_wait_and_tried_again_later() -> None:
    async with serving(echo) as server:
        target = server.rpc.target
    connector = Connector(target)
    async with ConnectionPool(connector, 1) as pool:
        getters = [asyncio.ensure_future(pool.get()) for _ in range(3)]
        for getter in getters:
            with pytest.raises(ConnectionRefusedError):
                await getter
        assert connector.attempts == 1
        with pytest.raises(ConnectionRefusedError):
            await pool.get()
        assert connector.attempts == 2
        async with serving(echo, target):
            assert (await (await pool.get()).unary(Note("hello"))).text == "hello"


async def test_an_attempt_that_nobody_waits_for_any_more_fails_in_silence() -> None:
    async with serving(echo) as server:
        target = server.rpc.target
    connector = Connector(target)
    connector.go_on.clear()
    async with ConnectionPool(connector, 1) as pool:
        getter = asyncio.ensure_future(pool.get())
        await wait_until(lambda: connector.attempts)
        getter.cancel()
        await asyncio.wait([getter])
        connector.go_on.set()
        await wait_until(lambda: pool._slots[0]._attempt is None)


async def test_failures_leave_no_garbage_behind() -> None:
    async def refuse() -> RpcClient[Note, Note]:
        raise ConnectionRefusedError

    async def fail(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(ConnectionRefusedError):
                await pool.get()

    pool = ConnectionPool(refuse, 1)
    loop = asyncio.get_running_loop()
    await loop.create_task(fail(5))
    gc.collect()
    gc.disable()
    try:
        await loop.create_task(fail(50))
        assert gc.collect() < 50
    finally:
        gc.enable()


async def test_a_closed_pool_gives_nothing(connector: Connector) -> None:
    pool = ConnectionPool(connector, 2)
    connector.go_on.clear()
    getter = asyncio.ensure_future(pool.get())
    await wait_until(lambda: connector.attempts)
    await pool.close()
    with pytest.raises(ConnectionClosed):
        await getter
    with pytest.raises(ConnectionClosed):
        await pool.get()
    await pool.close()


def test_a_pool_can_be_made_before_the_loop_runs_and_has_connections() -> None:
    ConnectionPool(lambda: connect("127.0.0.1:1"), 3)
    with pytest.raises(ValueError, match="at least 1 connection, not 0"):
        ConnectionPool(lambda: connect("127.0.0.1:1"), 0)


async def test_a_killed_server_and_its_successor(socket_dir: Path) -> None:
    target = f"unix:{socket_dir / 'socket'}"
    async with ConnectionPool(lambda: connect(target), 2) as pool:
        async with server_process(PROGRAM, target, ready="^ready$") as server:
            clients = [await pool.get(key) for key in range(2)]
            pids = {(await client.unary(Note("pid"))).text for client in clients}
            assert pids == {str(server.process.pid)}
            hanging = [client.unary(Note("hang")) for client in clients]
            stream = clients[0].stream(Note("count"))
            assert (await stream.__anext__()).text == "0"
            server.process.send_signal(signal.SIGKILL)
            assert await server.process.wait() == -signal.SIGKILL
        for completion in hanging:
            with pytest.raises(ConnectionClosed):
                await completion
        with pytest.raises(ConnectionClosed):
            async for _ in stream:
                pass
        assert not any(client.alive for client in clients)
        with pytest.raises(ConnectionRefusedError):
            await pool.get()
        async with server_process(PROGRAM, target, ready="^ready$") as server:
            for key in range(2):
                client = await pool.get(key)
                assert client.alive
                assert client not in clients
                assert (await client.unary(Note("pid"))).text == str(server.process.pid)
