"""A server that takes a call and says nothing more: the client's own side ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from connectivity.peers import listening
from connectivity.service import Stub
from service.pair import KINDS, failure, result

import protosocket_rpc as ps
from protosocket_rpc.rpc.message import CANCEL
from protosocket_rpc.testing import VirtualClock


@pytest.mark.parametrize("kind", KINDS)
async def test_the_deadline_passes_here_and_the_server_is_told(
    kind: str, virtual_clock: VirtualClock
) -> None:
    async with (
        listening("memory:silent") as peers,
        ps.insecure_channel(peers.target) as channel,
    ):
        await channel.channel_ready()
        peer = await peers.accept()
        call = start(channel, kind, timeout=0.05)
        opening = await peer.next()
        assert 0 < opening.timeout_us <= 50_000
        error = await failure(call)
        assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
        while (frame := await peer.next()).code != CANCEL:
            pass  # the requests of a stream
        assert frame.id == opening.id


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_waits_for_nobody(kind: str) -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        await channel.channel_ready()
        peer = await peers.accept()
        call = start(channel, kind)
        opening = await peer.next()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await result(call)
        while (frame := await peer.next()).code != CANCEL:
            pass
        assert frame.id == opening.id


def start(channel: ps.Channel, kind: str, timeout: float | None = None) -> Any:
    request = b"x" if kind in ("unary", "replies") else iter([b"x"])
    return getattr(Stub(channel), kind)(request, timeout=timeout)
