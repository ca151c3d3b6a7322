"""RPCs that their client gives up: the handler stops, and one CANCEL says so."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rpc.handlers import Handlers
from rpc.notes import (
    CANCEL,
    Note,
    client_and_peer,
    connect,
    serving,
)
from support import wait_until

from protosocket_rpc.rpc import RpcClient


async def cancel_method(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    completion = client.unary(Note())
    await handlers.running.acquire()
    assert completion.cancel()
    assert not completion.cancel()
    with pytest.raises(asyncio.CancelledError):
        await completion


async def cancel_task(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    async def call() -> Note:
        return await client.unary(Note())

    task = asyncio.ensure_future(call())
    await handlers.running.acquire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def time_out(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    completion = client.unary(Note())
    await handlers.running.acquire()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(completion, 0.05)


async def drop(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    completion = client.unary(Note())
    await handlers.running.acquire()
    del completion


async def cancel_task_but_hold_completion(
    client: RpcClient[Note, Note], handlers: Handlers
) -> None:
    completion = client.unary(Note())

    async def call() -> Note:
        return await completion

    task = asyncio.ensure_future(call())
    await handlers.running.acquire()
    task.cancel()
    await asyncio.wait([task])
    await handlers.stopped.acquire()
    handlers.stopped.release()
    assert completion.done()


async def drop_in_a_cycle(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    cycle: list[Any] = [client.unary(Note())]
    cycle.append(cycle)
    await handlers.running.acquire()
    del cycle
    gc.collect()


async def drop_on_another_thread(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    held = [client.unary(Note())]
    await handlers.running.acquire()
    # Later, so that the loop waits for something to happen by then: it has to be woken.
    threading.Timer(0.05, held.clear).start()


async def cancel_stream(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    assert stream.cancel()
    assert not stream.cancel()
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await stream.__anext__()


async def cancel_stream_under_a_reader(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    reader = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def cancel_reading_task(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    async def read() -> None:
        async for _ in client.stream(Note("stream")):
            reading.set()

    reading = asyncio.Event()
    task = asyncio.ensure_future(read())
    await reading.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_reading_task_but_hold_stream(
    client: RpcClient[Note, Note], handlers: Handlers
) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    reader = asyncio.ensure_future(stream.__anext__())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait([reader])
    await handlers.stopped.acquire()
    handlers.stopped.release()
    with pytest.raises(asyncio.CancelledError):
        await stream.__anext__()


async def break_out(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    async for note in client.stream(Note("stream")):
        assert note.text == "first"
        break


async def close_stream(client: RpcClient[Note, Note], handlers: Handlers) -> None:
    stream = client.stream(Note("stream"))
    await stream.__anext__()
    await stream.aclose()


@pytest.mark.parametrize(
    "give_up",
    [
        cancel_method,
        cancel_task,
        cancel_task_but_hold_completion,
        time_out,
        drop,
        drop_in_a_cycle,
        drop_on_another_thread,
        cancel_stream,
        cancel_stream_under_a_reader,
        cancel_reading_task,
        cancel_reading_task_but_hold_stream,
        break_out,
        close_stream,
    ],
)
async def test_giving_up_cancels_the_handler(
    give_up: Callable[[RpcClient[Note, Note], Handlers], Awaitable[None]],
) -> None:
    handlers = Handlers()
    async with (
        serving(handlers.new_rpc) as server,
        await connect(server.rpc.target) as client,
    ):
        await give_up(client, handlers)
        await handlers.stopped.acquire()
        assert handlers.outcomes == ["CancelledError"]
        assert not client._session.rpcs
        await wait_until(lambda: not server.sessions[0].rpcs)


async def test_giving_up_sends_one_cancel() -> None:
    async with client_and_peer() as (client, peer):
        client.unary(Note("dropped"))
        await wait_until(lambda: len(peer.heard) == 2)
        completion = client.unary(Note("cancelled"))
        completion.cancel()
        del completion
        await wait_until(lambda: len(peer.heard) == 4)
        completion = client.unary(Note("answered"))
        await wait_until(lambda: len(peer.heard) == 5)
        peer.say(id=3)
        await completion
        del completion
    assert await peer.closed is None
    assert peer.heard == [
        Note("dropped", 1),
        Note("", 1, CANCEL),
        Note("cancelled", 2),
        Note("", 2, CANCEL),
        Note("answered", 3),
    ]


async def test_a_task_that_nobody_holds_keeps_its_rpc() -> None:
    async with client_and_peer() as (client, peer):
        done: list[str] = []

        async def call() -> None:
            done.append((await client.unary(Note())).text)

        asyncio.get_running_loop().call_soon(asyncio.ensure_future, call())
        await wait_until(lambda: peer.heard)
        gc.collect()
        peer.say("answer", id=1)
        await wait_until(lambda: done)
        assert done == ["answer"]


async def test_completions_outlive_their_loop_in_peace() -> None:
    """Dropped after the loop has closed: nothing to tell, nothing raised."""
    completions: list[Any] = []

    async def main() -> None:
        async with client_and_peer() as (client, _):
            completions.append(client.unary(Note()))
            completions.append(client.stream(Note()))

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join)
    completions.clear()


async def test_an_error_that_nobody_asks_for_is_not_reported() -> None:
    """Nothing reaches the loop's exception handler, which would fail this test."""
    async with client_and_peer() as (client, peer):
        completion = client.unary(Note())
        await wait_until(lambda: peer.heard)
        peer.say(id=1, code=CANCEL)
        await wait_until(completion.done)
        del completion
