"""The coroutines that serve one RPC each: they run the user's function, to its end.

Not compiled: a coroutine of Python's own is started and awaited faster than a compiled one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any

from protosocket_rpc.service.current import CURRENT_RPC

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext

# A stream of replies that never waits gives way to others after this many.
_REPLIES_PER_TURN = 64


async def serve_reply(context: ServicerContext[Any, Any], request: Any) -> None:
    CURRENT_RPC.set(context)
    try:
        context.finish_with(await context.handler.behavior(request, context))
    except BaseException as error:
        context.finish_raised(error)
    finally:
        context.on_handler_done()


async def serve_replies(context: ServicerContext[Any, Any], request: Any) -> None:
    CURRENT_RPC.set(context)
    try:
        await run_replies(context, request)
    except BaseException as error:
        context.finish_raised(error)
    finally:
        context.on_handler_done()


async def run_replies(context: ServicerContext[Any, Any], request: Any) -> None:
    """Run the handler of an RPC with a reply stream, to its end."""
    replies = context.handler.behavior(request, context)
    if hasattr(replies, "__aiter__"):
        await _send_replies(context, replies)
    else:
        await _await_writes(context, replies)
    context.finish_stream()


async def _send_replies(context: ServicerContext[Any, Any], replies: AsyncIterator[Any]) -> None:
    turn = _REPLIES_PER_TURN
    try:
        async for reply in replies:
            if not context.send_reply(reply):
                await context.wait_sendable()
                turn = _REPLIES_PER_TURN
            else:
                turn -= 1
                if not turn:
                    turn = _REPLIES_PER_TURN
                    await _give_way()
    finally:
        close = getattr(replies, "aclose", None)
        if close is not None:
            await close()


async def _await_writes(context: ServicerContext[Any, Any], writes: Awaitable[Any]) -> None:
    """A coroutine function's way to stream replies: with `context.write()`."""
    result = await writes
    if result is not None:
        raise TypeError(
            f"{context.method()} streams its replies: yield them, or context.write() them, "
            f"but do not return {type(result).__name__}"
        )
    await context.wait_sendable()  # if a writer was cancelled, its message may be on its way


class _GiveWay:
    """Awaiting it lets the loop run everything else that is ready."""

    __slots__ = ()

    def __await__(self) -> Any:
        yield


async def _give_way() -> None:
    await _GiveWay()
