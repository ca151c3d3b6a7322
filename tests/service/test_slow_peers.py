"""A connection whose output is always full: small calls pass, and requests do not pile up."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from service.pair import TCP, paired
from service.sansio import F
from support import RawPeer, wait_until

import protosocket_rpc as ps
from protosocket_rpc.rpc.message import END
from protosocket_rpc.service.server_connection import ServiceConnection
from protosocket_rpc.wire.frame import Settings, encode_frame, settings_field


def with_small_buffer(server: ps.Server) -> ServiceConnection:
    """The only connection of a server, whose system takes little of what it sends at a time."""
    (session,) = server._running.sessions
    sock = session.sender().get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
    return session


def codes(server: ps.Server, kind: str = "Unary") -> dict[str, int]:
    """How calls of a method have ended."""
    method = server.snapshot()["methods"].get(f"/test.Service/{kind}")
    return {} if method is None else method["codes"]


async def test_a_large_reply_on_a_slow_network_does_not_hold_up_small_calls() -> None:
    size = 16 * 1024 * 1024

    async def handler(request: bytes, context: Any) -> bytes:
        return bytes(size) if request == b"large" else request

    limits = {"limits": ps.RpcLimits(max_receive_message_size=size)}
    async with paired(TCP, channel=limits, Unary=handler) as pair:
        await pair.unary(b"settings")
        with_small_buffer(pair.server)
        large = pair.unary(b"large")
        small = 0
        while not large.done():
            assert await pair.unary(b"small") == b"small"
            small += 1
        assert len(await large) == size
        assert small >= 20  # of 64 fragments, a small call waits for two at the most


@pytest.mark.parametrize(("kind", "body"), [("Unary", b""), ("Requests", None)])
async def test_a_reply_that_leaves_too_slowly_meets_its_deadline(
    kind: str, body: bytes | None
) -> None:
    """Also if its handler has ended before it has waited for anything."""

    async def handler(request: Any, context: Any) -> bytes:
        return bytes(64 * 1024 * 1024)

    options = {"metrics": ps.ServerMetrics()}
    async with paired(TCP, server=options, Unary=handler, Requests=handler) as pair:
        with await RawPeer.connect(pair.target) as peer:
            settings = Settings()
            settings.fragments = True
            opening = F(1, method=f"/test.Service/{kind}", body=body, timeout_us=50_000)
            await peer.send(encode_frame(0, END, settings_field(settings)) + opening.encode())
            await wait_until(lambda: "DEADLINE_EXCEEDED" in codes(pair.server, kind))
            assert codes(pair.server, kind) == {"DEADLINE_EXCEEDED": 1}


async def test_large_replies_wait_for_their_turn_however_many() -> None:
    size = 1024 * 1024

    async def handler(request: bytes, context: Any) -> bytes:
        return bytes(size)

    limits = ps.RpcLimits(max_queued_output=2 * size)
    async with paired(TCP, server={"limits": limits}, Unary=handler) as pair:
        await pair.unary(b"settings")
        with_small_buffer(pair.server)
        replies = await asyncio.gather(*(pair.unary(b"") for _ in range(50)))
    assert [len(reply) for reply in replies] == [size] * 50


async def test_a_peer_that_only_sends_is_read_from_no_more() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return bytes(300_000)

    def request(id: int) -> bytes:
        return F(id, method="/test.Service/Unary", body=b"x").encode()

    async with paired(TCP, Unary=handler) as pair:
        with await RawPeer.connect(pair.target) as peer:
            settings = Settings()
            settings.fragments = True
            await peer.send(encode_frame(0, END, settings_field(settings)))
            # More than the systems of both sides hold.
            await peer.send(b"".join([request(id) for id in range(1, 101)]))
            await wait_until(lambda: pair.server._running.sessions)
            (session,) = pair.server._running.sessions
            await wait_until(lambda: session.last_id == 100 and not session.sender().writable)
            quiet = waited = 0
            while quiet < 500:
                quiet = 0 if session.sender().writable or session.backlog() != waited else quiet + 1
                waited = session.backlog()
                await asyncio.sleep(0)
            assert waited > 0
            for id in range(101, 104):
                await peer.send(request(id))
                for _ in range(100):
                    await asyncio.sleep(0)
            assert session.last_id <= 101  # the one read that may have been due
        await wait_until(lambda: not pair.server._running.sessions)
