"""Sends what an iterator gives as the requests of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from protosocket_rpc.service.call import Call

Request = TypeVar("Request")
# Where requests come from: an asynchronous generator, a list, or anything else that gives them.
RequestIterator = AsyncIterable[Request] | Iterable[Request]

# Requests that leave in one turn of the loop, from an iterator that never waits.
_REQUESTS_PER_TURN: Final = 64


async def send_all(call: Call, requests: RequestIterator[Any]) -> None:
    """Send what an iterator gives, and half-close behind it."""
    try:
        if isinstance(requests, AsyncIterable):
            await _send_each(call, requests)
        else:
            await _send_each(call, _in_turns(requests))
        await call.close_requests()
    except asyncio.CancelledError:
        if not call.finished:  # else it is the end that stopped this, with replies to be read
            call.cancel()
        raise
    except BaseException as error:
        if call.loop.is_closed():
            raise  # the interpreter disposes of what the loop has left behind
        call.on_requests_failed(error)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise


async def _send_each(call: Call, requests: AsyncIterable[Any]) -> None:
    try:
        async for request in requests:
            await call.send_request(request)
    finally:
        # A generator that nobody asks for more is to end now, not when it is collected.
        close = getattr(requests, "aclose", None)
        if close is not None:
            await close()


async def _in_turns(requests: Iterable[Request]) -> AsyncIterator[Request]:
    """The requests of an iterator that never gives way to others."""
    turn = _REQUESTS_PER_TURN
    for request in requests:
        yield request
        turn -= 1
        if not turn:
            turn = _REQUESTS_PER_TURN
            await asyncio.sleep(0)
