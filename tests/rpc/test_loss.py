"""Ends that the server says, and connections that are lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from rpc.handlers import Handlers
from rpc.notes import (
    CANCEL,
    END,
    Note,
    client_and_peer,
    connect,
    serving,
)
from support import wait_until

from protosocket_rpc.errors import ConnectionClosed, RemoteCancelled
from protosocket_rpc.rpc import RpcClient


async def test_remote_cancel() -> None:
    async with client_and_peer() as (client, peer):
        unary, stream = client.unary(Note()), client.stream(Note())
        await wait_until(lambda: len(peer.heard) == 2)
        peer.say(id=1, code=CANCEL)
        peer.say("item", id=2)
        peer.say(id=2, code=CANCEL)
        with pytest.raises(RemoteCancelled):
            await unary
        assert (await stream.__anext__()).text == "item"
        for _ in range(2):
            with pytest.raises(RemoteCancelled):
                await stream.__anext__()
    assert len(peer.heard) == 2  # they had ended: no CANCEL


async def test_late_messages_change_nothing() -> None:
    async with client_and_peer() as (client, peer):
        first = client.unary(Note())
        await wait_until(lambda: peer.heard)
        for code in (0, 0, END, CANCEL):
            peer.say("late", id=1, code=code)
            peer.say("never asked for", id=77, code=code)
        assert (await first).text == "late"
        second = client.unary(Note())
        await wait_until(lambda: len(peer.heard) == 2)
        peer.say("in time", id=2)
        assert (await second).text == "in time"


async def test_a_client_that_goes_away_cancels_its_handlers() -> None:
    handlers = Handlers()
    async with serving(handlers.new_rpc) as server:
        async with await connect(server.rpc.target) as client:
            unary, stream = client.unary(Note()), client.stream(Note("stream"))
            await stream.__anext__()
            for _ in range(2):
                await handlers.running.acquire()
        await handlers.stopped.acquire()
        await handlers.stopped.acquire()
        assert handlers.outcomes == ["CancelledError"] * 2
        assert await server.services[0].closed is None
        assert not server.sessions
        with pytest.raises(ConnectionClosed):
            await unary


async def test_a_lost_connection_ends_every_rpc_with_its_cause() -> None:
    async with client_and_peer() as (client, peer):
        unary, stream = client.unary(Note()), client.stream(Note())
        await wait_until(lambda: len(peer.heard) == 2)
        peer.say("item", id=2)
        await wait_until(lambda: stream._rpc.readable)
        # Cut off in the middle of a message.
        peer.connection.write(b"\xce\0\0\0\x10half of")
        peer.connection.close()
        with pytest.raises(ConnectionClosed) as caught:
            await unary
        assert isinstance(caught.value.__cause__, ConnectionClosed)
        assert (await stream.__anext__()).text == "item"
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match="in the middle of a message"):
                await stream.__anext__()
        assert not client.alive
        with pytest.raises(ConnectionClosed):
            client.unary(Note())
        with pytest.raises(ConnectionClosed):
            client.stream(Note())


async def test_a_connection_that_its_server_closes() -> None:
    async with client_and_peer() as (client, peer):
        completion = client.unary(Note())
        await wait_until(lambda: peer.heard)
        peer.connection.close()
        with pytest.raises(ConnectionClosed) as caught:
            await completion
        assert caught.value.__cause__ is None


async def test_a_server_that_closes_while_requests_wait_for_it() -> None:
    async with client_and_peer() as (client, peer):
        completions = [client.unary(Note())]
        await wait_until(lambda: peer.heard)
        peer.connection.pause_reading()
        connection = client._session.sender()
        while connection.writable:
            completions.append(client.unary(Note("x" * 1_000_000)))
            await asyncio.sleep(0)
        peer.connection._transport.write_eof()
        for completion in completions:
            with pytest.raises(ConnectionClosed, match="before it had read its requests"):
                await completion


async def test_a_client_that_is_closed_ends_its_rpcs() -> None:
    async with client_and_peer() as (client, peer):
        unary, stream = client.unary(Note()), client.stream(Note())
        reader = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        await client.close()
        await client.close()
        assert not client.alive
        for awaitable in (unary, reader):
            with pytest.raises(ConnectionClosed):
                await awaitable
        assert await peer.closed is None


async def test_rpcs_leave_no_garbage_behind() -> None:
    async def answer(note: Note) -> Note:
        if note.text == "fail":
            raise ValueError
        return note

    async def rounds(client: RpcClient[Note, Note], number: int) -> None:
        for _ in range(number):
            await client.unary(Note())
            with contextlib.suppress(RemoteCancelled):
                await client.unary(Note("fail"))
            with contextlib.suppress(RemoteCancelled):
                async for _ in client.stream(Note("fail")):
                    pass
            client.unary(Note())
            client.stream(Note())

    async with serving(answer) as server, await connect(server.rpc.target) as client:
        await rounds(client, 5)
        gc.collect()
        gc.disable()
        try:
            # A task of the loop's own kind: the test itself may run in one that makes cycles.
            await asyncio.get_running_loop().create_task(rounds(client, 50))
            await wait_until(lambda: not server.sessions[0].rpcs)
            assert gc.collect() < 50  # what the loop leaves behind does not grow with the rounds
        finally:
            gc.enable()
