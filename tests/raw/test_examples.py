"""The programs under examples/raw, as their readers run them: each server is a process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from support import ROOT, RawPeer, server_process, wait_until

from examples.raw.key_value import connect_client
from examples.raw.pipeline import BATCH, CALIBRATIONS, connect_sensor
from protosocket_rpc.errors import ConnectionClosed

READY = r"^serving on (\S+)$"


@pytest.fixture
async def served(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Where the example that is the fixture's parameter listens."""
    program = ROOT / "examples" / "raw" / f"{request.param}.py"
    async with server_process(program, "127.0.0.1:0", ready=READY) as server:
        yield server.ready[1]


@pytest.mark.parametrize("served", ["lines"], indirect=True)
class TestLines:
    async def test_a_half_closing_peer_gets_its_answers_in_order(self, served: str) -> None:
        with await RawPeer.connect(served) as peer:
            await peer.send(b"sum 1 2 3\r\nsleep 0.05\r\nupper done\r\nsum x\r\nwhat\r\n")
            peer.end()
            lines = (await peer.read_all()).decode().splitlines()
        assert lines == [
            "6",
            "slept",
            "DONE",
            "error: invalid literal for int() with base 10: 'x'",
            "error: unknown command 'what'",
        ]

    async def test_a_slow_line_holds_up_its_own_connection_alone(self, served: str) -> None:
        with await RawPeer.connect(served) as slow, await RawPeer.connect(served) as peer:
            await slow.send(b"sleep 600\nupper late\n")
            await peer.send(b"upper early\n")
            assert await peer.read() == b"EARLY\n"

    async def test_many_lines_at_once(self, served: str) -> None:
        with await RawPeer.connect(served) as peer:
            count = 20_000  # far more than the server lets wait
            reading = asyncio.ensure_future(peer.read_all())
            await peer.send(b"".join(b"upper line %d\n" % i for i in range(count)))
            peer.end()
            assert (await reading).decode().splitlines() == [f"LINE {i}" for i in range(count)]


@pytest.mark.parametrize("served", ["key_value"], indirect=True)
class TestKeyValue:
    async def test_answers_come_when_they_are_ready(self, served: str) -> None:
        client, other = await connect_client(served), await connect_client(served)
        waiting = [asyncio.ensure_future(client.ask("wait", "key")) for _ in range(3)]
        assert await client.ask("get", "key") is None
        assert await client.ask("set", "another", [1, {"two": 3.0}])
        assert await other.ask("get", "another") == [1, {"two": 3.0}]
        assert not any(task.done() for task in waiting)
        assert await other.ask("set", "key", "value")
        assert await asyncio.gather(*waiting) == ["value"] * 3
        assert await client.ask("wait", "key") == "value"
        for each in (client, other):
            each.connection.close()
            await each.connection.wait_closed()

    async def test_many_at_a_time(self, served: str) -> None:
        client = await connect_client(served)
        await asyncio.gather(*(client.ask("set", f"key {i}", i) for i in range(1000)))
        values = await asyncio.gather(*(client.ask("get", f"key {i}") for i in range(1000)))
        assert values == list(range(1000))
        client.connection.close()
        await client.connection.wait_closed()

    async def test_a_bad_request_ends_that_connection_alone(self, served: str) -> None:
        client, other = await connect_client(served), await connect_client(served)
        with pytest.raises(ConnectionClosed):
            await client.ask("what")
        assert await other.ask("get", "key") is None
        other.connection.close()
        await other.connection.wait_closed()

    async def test_who_waits_and_goes_is_forgotten(self, served: str) -> None:
        client, other = await connect_client(served), await connect_client(served)
        waiting = asyncio.ensure_future(client.ask("wait", "key"))
        await client.ask("get", "key")
        client.connection.close()
        with pytest.raises(ConnectionClosed):
            await waiting
        assert await other.ask("set", "key", 1)
        other.connection.close()
        await other.connection.wait_closed()


@pytest.mark.parametrize("served", ["pipeline"], indirect=True)
class TestPipeline:
    async def test_both_sides_stream_at_will(self, served: str) -> None:
        sensor = await connect_sensor(served)
        count = 200
        readings = [float(i) for i in range(count * BATCH)]
        streaming = asyncio.ensure_future(sensor.stream(readings))
        means = [await sensor.means.get() for _ in range(count)]
        await streaming
        assert means == [i * BATCH + (BATCH - 1) / 2 for i in range(count)]
        assert sensor.calibrations == [step / CALIBRATIONS for step in range(CALIBRATIONS)]
        sensor.connection.close()
        await sensor.connection.wait_closed()

    async def test_a_station_speaks_first(self, served: str) -> None:
        sensor = await connect_sensor(served)
        await wait_until(lambda: len(sensor.calibrations) == CALIBRATIONS)
        sensor.connection.close()
        await sensor.connection.wait_closed()


@pytest.mark.toolchain
@pytest.mark.timeout(120)
def test_their_types_hold() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", ROOT / "examples" / "raw"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
