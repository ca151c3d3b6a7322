"""What a connection costs each side while nothing happens on it.

The long way is ``IDLE_CONNECTIONS=10000 pytest -s -k "server and False and uvloop"`` of this file:
resident bytes, without tracing, which mean something only if there are many, and if nothing else
has run in the process before.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import Iterator

import pytest
import uvloop
from connectivity.service import serving
from service.sansio import peer_settings
from service.test_memory import resident_bytes
from support import server_process, wait_until

import protosocket_rpc as ps
from protosocket_rpc.rpc.message import END
from protosocket_rpc.wire.frame import encode_frame, settings_field

MANY = int(os.environ.get("IDLE_CONNECTIONS", "300"))
SOME = MANY // 5
# The other side is another process: each is to be measured alone.
CLIENTS = """
import signal, socket, sys
settings, host, port, count = sys.argv[1:]
sockets = []
for _ in range(int(count)):
    client = socket.create_connection((host, int(port)))
    client.sendall(bytes.fromhex(settings))
    assert client.recv(1000)
    sockets.append(client)
print("open", flush=True)
signal.pause()
"""
SERVER = """
import protosocket_rpc as ps
server = ps.server()
print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
ps.run(server)
"""


def most(uvloop_bytes: int) -> int:
    """Bytes of one connection. asyncio's own transports take more than uvloop's."""
    on_uvloop = isinstance(asyncio.get_running_loop(), uvloop.Loop)
    return uvloop_bytes if on_uvloop else uvloop_bytes + 2560


class Memory:
    """What has been taken since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self._resident = resident_bytes()
        self._traced, _ = tracemalloc.get_traced_memory()

    def of_each(self, what: str) -> float:
        """Bytes for each of MANY connections."""
        gc.collect()
        traced = (tracemalloc.get_traced_memory()[0] - self._traced) / MANY
        resident = (resident_bytes() - self._resident) / MANY
        figure = (
            f"{traced:.0f} bytes traced" if tracemalloc.is_tracing() else f"{resident:.0f} resident"
        )
        print(f"{MANY} connections of a {what}: {figure} each")
        return traced


@pytest.fixture(params=[True, False] if MANY >= 5000 else [True])
def traced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tracing takes memory itself: what is resident is measured without."""
    if request.param:
        tracemalloc.start()
    yield
    tracemalloc.stop()


async def connected(channel: ps.Channel, count: int) -> None:
    await channel.channel_ready()
    connector = channel.connector()
    await wait_until(lambda: len(connector.ready) == count)
    await wait_until(lambda: all(session.heard for session in connector.ready))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("traced")
async def test_an_idle_connection_of_a_server() -> None:
    settings = encode_frame(0, END, settings_field(peer_settings())).hex()
    async with serving() as server:
        where = server.target.split(":")
        # Those before the others take what a server makes for all of them.
        async with server_process("-c", CLIENTS, settings, *where, str(SOME), ready="open"):
            memory = Memory()
            async with server_process("-c", CLIENTS, settings, *where, str(MANY), ready="open"):
                running = server.server._running
                assert running is not None
                await wait_until(
                    lambda: (
                        len(running.sessions) == SOME + MANY
                        and all(session.heard for session in running.sessions)
                    )
                )
                assert memory.of_each("server") < most(2100)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("traced")
async def test_an_idle_connection_of_a_channel() -> None:
    async with server_process("-c", SERVER, ready=r"port (\d+)") as server:
        target = f"127.0.0.1:{server.ready[1]}"
        async with ps.insecure_channel(target, connections=SOME) as first:
            await connected(first, SOME)
            memory = Memory()
            async with ps.insecure_channel(target, connections=MANY) as channel:
                await connected(channel, MANY)
                assert memory.of_each("channel") < most(2500)
