"""The client of RPC over a user's own messages, on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import ssl as ssl_module
from collections.abc import Generator
from types import TracebackType
from typing import Any, Final, Generic

from protosocket_rpc import raw
from protosocket_rpc.errors import ConnectionClosed, OutputQueueFull, UsageError
from protosocket_rpc.raw.codec import Codec
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.rpc.client_session import (
    ClientRpc,
    ClientSession,
    StreamingRpc,
    UnaryRpc,
)
from protosocket_rpc.rpc.codec import EnvelopeCodec
from protosocket_rpc.rpc.message import MessageType
from protosocket_rpc.rpc.own_session import Request, Response

# The default of `connect(max_unread=...)`, in bytes.
MAX_UNREAD: Final = 4 * 1024 * 1024


async def connect(
    target: str,
    codec: Codec[Response, Request],
    *,
    request: MessageType[Request],
    response: MessageType[Response],
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    limits: Limits | None = None,
    max_unread: int = MAX_UNREAD,
    busy_poll: float | None = None,
) -> RpcClient[Request, Response]:
    """Connect to a server whose messages tell their RPC's id and control code.

    Args:
        target: ``host:port``, ``unix:path``, ... (`protosocket_rpc.raw.parse_address` lists the
            forms).
        codec: this connection's own: encodes requests, decodes responses.
        request, response: how the two types of message tell their id and control code.
        ssl: the context to speak TLS with; None for none.
        server_hostname: the name to expect in the peer's certificate, instead of the target's.
        limits: what the connection may hold.
        max_unread: bytes of streams that may have arrived and not been read by the application,
            of all streams together, each message counting with 256 bytes of its own. Beyond it
            nothing is read from the connection until half of them are taken.
        busy_poll: poll instead of sleeping while a unary RPC is in flight, and for so many seconds
            after each traffic: a shorter latency, for a core that is never idle meanwhile. None for
            not at all.

    Raises:
        OSError: there is no connection to be had.
        ValueError: the target has no known form.
    """
    session: ClientSession[Request, Response] = ClientSession(request, max_unread)
    await raw.connect(
        target,
        EnvelopeCodec(codec, response),
        session,
        ssl=ssl,
        server_hostname=server_hostname,
        limits=limits,
        log_ends=False,
        busy_poll=busy_poll,
    )
    return RpcClient(session, asyncio.get_running_loop())


class RpcClient(Generic[Request, Response]):
    """RPCs over one connection, as many at a time as wanted. Made by `connect()`.

    Use it on the loop that made it.
    """

    def __init__(
        self, session: ClientSession[Request, Response], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._session = session
        self._loop = loop

    @property
    def alive(self) -> bool:
        """False from the moment that the connection can carry no RPC any more."""
        return not self._session.sender().closing

    def unary(self, request: Request) -> UnaryCompletion[Request, Response]:
        """Send a request that has one reply. It leaves at once; its id is set here.

        Returns:
            An awaitable of the reply. Dropping it, cancelling it, and cancelling the task that
            awaits it cancel the RPC.

        Raises:
            ConnectionClosed: the connection has ended.
        """
        completion = UnaryCompletion(self._session, self._loop)
        completion.open(request)
        return completion

    def stream(self, request: Request) -> StreamingCompletion[Request, Response]:
        """Send a request that has a stream of replies. It leaves at once; its id is set here.

        Returns:
            An async iterator of the replies. Dropping it, cancelling it, and cancelling the task
            that awaits its next reply cancel the RPC.

        Raises:
            ConnectionClosed: the connection has ended.
        """
        completion = StreamingCompletion(self._session, self._loop)
        completion.open(request)
        return completion

    async def close(self) -> None:
        """Close the connection. RPCs in flight end with `ConnectionClosed`."""
        connection = self._session.sender()
        if connection.writable:
            connection.close()
        else:  # nobody waits any more for what the server does not read
            connection.abort(ConnectionClosed("the client was closed"))
        await connection.wait_closed()

    async def __aenter__(self) -> RpcClient[Request, Response]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Completion(Generic[Request, Response]):
    """The caller's end of an RPC.

    A request that finds the connection's queue full is kept, and leaves when it is awaited and
    the server has read enough.
    """

    def __init__(
        self,
        session: ClientSession[Request, Response],
        loop: asyncio.AbstractEventLoop,
        rpc: ClientRpc[Response],
    ) -> None:
        self._session = session
        self._loop = loop
        self._rpc = rpc
        self._kept: Request | None = None

    def open(self, request: Request) -> None:
        """Send the request, or keep it."""
        try:
            self._session.open(self._rpc, request)
        except OutputQueueFull:
            self._kept = request

    async def _send_kept(self) -> None:
        connection = self._session.sender()
        if self._kept is not None:
            await connection.drain()
        if self._kept is not None:
            request, self._kept = self._kept, None
            self._session.open(self._rpc, request)

    def _give_up(self) -> bool:
        """Tell the server that nobody waits. False if the RPC had ended already."""
        if self._kept is not None:
            self._kept = None
            return True
        return self._session.cancel(self._rpc)

    def __del__(self) -> None:
        # The collector may run anywhere: inside of the connection's code, or on another thread.
        if self._rpc.pending:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the connection too
                self._loop.call_soon_threadsafe(self._session.cancel, self._rpc)


class UnaryCompletion(_Completion[Request, Response]):
    """The reply of a unary RPC, to come. Made by `RpcClient.unary`.

    Awaiting it gives the reply, and again the same one each time. It raises:

    * `RemoteCancelled`: the server cancelled the RPC, or refused it.
    * `RpcFinished`: the server ended the RPC without a reply.
    * `ConnectionClosed`: the connection was lost or closed; ``__cause__`` says why, if known.
    * `ProtocolError`: the server broke the protocol, which ended the connection.
    * `asyncio.CancelledError`: the RPC was cancelled here.
    """

    _rpc: UnaryRpc[Response]

    def __init__(
        self, session: ClientSession[Request, Response], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._future: asyncio.Future[Response] = loop.create_future()
        super().__init__(session, loop, UnaryRpc(session, self._future))

    def __await__(self) -> Generator[Any, Any, Response]:
        try:
            if self._kept is not None:
                yield from self._send_kept().__await__()
            return (yield from self._future)
        except BaseException:
            self.cancel()
            raise
        finally:
            del self  # what is raised holds this frame, and would be held by it

    def done(self) -> bool:
        """True when the reply or an error is there, or the RPC was cancelled here."""
        return self._future.done()

    def cancel(self) -> bool:
        """Cancel the RPC. False if it had ended already."""
        self._future.cancel()
        return self._give_up()


class StreamingCompletion(_Completion[Request, Response]):
    """The replies of a streaming RPC, to come: an async iterator. Made by `RpcClient.stream`.

    It ends when the server has ended the stream. Otherwise, and only after all that arrived
    before, it raises, the same each time:

    * `RemoteCancelled`: the server cancelled the RPC, or refused it.
    * `ConnectionClosed`: the connection was lost or closed; ``__cause__`` says why, if known.
    * `ProtocolError`: the server broke the protocol, which ended the connection.
    * `asyncio.CancelledError`: the RPC was cancelled here.

    What is not read is held up to a limit for all streams of the connection, and then nothing
    arrives on it at all, for no RPC: read on, cancel, or drop the iterator.
    """

    _rpc: StreamingRpc[Response]

    def __init__(
        self, session: ClientSession[Request, Response], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(session, loop, StreamingRpc(session))
        self._cancelled = False

    def __aiter__(self) -> StreamingCompletion[Request, Response]:
        return self

    async def __anext__(self) -> Response:
        rpc = self._rpc
        try:
            if self._kept is not None:
                await self._send_kept()
            if not (rpc.readable or rpc.ended):
                await self._wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if rpc.readable:
            return rpc.take()
        if self._cancelled:
            raise asyncio.CancelledError
        error = rpc.error
        try:
            raise StopAsyncIteration if error is None else error
        finally:
            del self, rpc, error  # what is raised holds this frame, and would be held by it

    async def _wait(self) -> None:
        rpc = self._rpc
        if rpc.waiter is not None:
            raise UsageError("another task waits for the next message of this stream")
        rpc.waiter = self._loop.create_future()
        await rpc.waiter

    def cancel(self) -> bool:
        """Cancel the RPC, and drop what was not read. False if it had ended already."""
        rpc = self._rpc
        in_flight = self._give_up()
        if in_flight:
            self._cancelled = rpc.ended = True
        waiter, rpc.waiter = rpc.waiter, None
        if waiter is not None:
            waiter.cancel()
        return in_flight

    async def aclose(self) -> None:
        """Cancel the RPC unless it has ended: for ``contextlib.aclosing``."""
        self.cancel()
