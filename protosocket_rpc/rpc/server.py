"""The server of RPC over a user's own messages, on asyncio."""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections.abc import AsyncIterable, Awaitable, Callable
from enum import Enum
from types import TracebackType
from typing import Any, Final, Generic

from protosocket_rpc import raw
from protosocket_rpc.eager import EagerRunner, eager_runner
from protosocket_rpc.errors import ConnectionClosed, ProtocolError
from protosocket_rpc.raw.address import Address
from protosocket_rpc.raw.binding import Binding
from protosocket_rpc.raw.codec import Codec
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.rpc.codec import EnvelopeCodec
from protosocket_rpc.rpc.message import Envelope, MessageType
from protosocket_rpc.rpc.own_session import Request, Response
from protosocket_rpc.rpc.server_session import ServerRpc, ServerSession

_log = logging.getLogger("protosocket_rpc.rpc")

# The default of `serve(max_concurrent_rpcs=...)`.
MAX_CONCURRENT_RPCS: Final = 100_000

# Responses of one stream that leave before other handlers have their turn.
_BURST: Final = 64
# Seconds that clients have, when the server stops, to read what is queued for them.
_LAST_WORDS: Final = 1.0


class Rejection(Enum):
    """The type of `REJECTED`."""

    REJECTED = "rejected"


REJECTED: Final = Rejection.REJECTED


class ConnectionService(Generic[Request, Response]):
    """Answers the RPCs of one connection: a place for what belongs to that connection."""

    def new_rpc(
        self, request: Request
    ) -> Awaitable[Response] | AsyncIterable[Response] | Rejection:
        """A client sent a request.

        Called at once, in the order in which requests arrive, each time in a task and with
        context variables of its own; it must not block. The ids of responses are set for it.

        A client that cancels cancels what is awaited here. An exception ends the RPC with
        CANCEL, since these messages have no room to say more, and is logged.

        Returns:
            What makes the one response, as a call of an ``async def`` does; what makes a stream
            of them, as an async generator does; or `REJECTED`, which the client is told by
            CANCEL.
        """
        raise NotImplementedError

    def on_close(self, cause: Exception | None) -> None:
        """The connection is gone; handlers still running have been cancelled.

        Args:
            cause: None if either side closed in good order, else what went wrong.
        """


# Makes the service of a connection that was accepted. A class will do.
ServiceFactory = Callable[[Connection[Any, Any]], ConnectionService[Request, Response]]


async def serve(
    target: str | Binding,
    codec: Callable[[], Codec[Request, Response]],
    service: ServiceFactory[Request, Response],
    *,
    request: MessageType[Request],
    response: MessageType[Response],
    ssl: ssl_module.SSLContext | None = None,
    limits: Limits | None = None,
    max_concurrent_rpcs: int = MAX_CONCURRENT_RPCS,
    backlog: int = 1024,
    reuse_port: bool = False,
    busy_poll: float | None = None,
) -> RpcServer[Request, Response]:
    """Listen, and serve RPCs to every connection until the server is stopped.

    Args:
        target: as for `connect`, port 0 lets the system choose (see `RpcServer.target`); or what
            `protosocket_rpc.raw.bind` made of one.
        codec: called once for each connection; decodes requests, encodes responses.
        service: called once for each connection, with the connection, which knows the peer.
        request, response: how the two types of message tell their id and control code.
        ssl: the context to speak TLS with; None for none.
        limits: what each connection may hold.
        max_concurrent_rpcs: RPCs that one connection may have in flight; more are rejected.
        backlog: connections that the system may hold before they are accepted.
        reuse_port: share the port with other processes that say so too.
        busy_poll: poll instead of sleeping while a unary RPC is in flight, and for so many seconds
            after each traffic: a shorter latency, for a core that is never idle meanwhile. None for
            not at all.

    Raises:
        OSError: the address cannot be bound.
        ValueError: the target has no known form.
    """
    handlers = _Handlers(asyncio.get_running_loop())

    def make_codec() -> EnvelopeCodec[Request, Response]:
        return EnvelopeCodec(codec(), request)

    def make_session() -> _Session[Request, Response]:
        return _Session(response, max_concurrent_rpcs, service, handlers)

    server = await raw.serve(
        target,
        make_codec,
        make_session,
        ssl=ssl,
        limits=limits,
        backlog=backlog,
        reuse_port=reuse_port,
        log_ends=False,
        busy_poll=busy_poll,
    )
    return RpcServer(server, handlers)


class RpcServer(Generic[Request, Response]):
    """A server and its RPCs. Made by `serve()`; ``async with`` stops it at the end."""

    def __init__(
        self, server: raw.RawServer[Envelope[Request], Response], handlers: _Handlers
    ) -> None:
        self._server = server
        self._handlers = handlers

    @property
    def address(self) -> Address:
        """Where it listens, with the port that the system chose if that was left to it."""
        return self._server.address

    @property
    def target(self) -> str:
        """The address as `connect()` takes it."""
        return self._server.target

    async def stop(self, grace: float | None = None) -> None:
        """Accept no more connections and RPCs, let handlers end, then close the connections.

        Returns when every handler has ended, its ``finally`` blocks included.

        Args:
            grace: seconds that handlers have to finish before they are cancelled; None cancels
                them at once.
        """
        handlers = self._handlers
        self._server.close()
        handlers.drain()
        if grace is not None:
            await handlers.wait(grace)
        for session in tuple(handlers.sessions):
            session.cancel_all()
        await handlers.wait(None)
        await self._server.stop(_LAST_WORDS)
        handlers.runner.close()

    async def __aenter__(self) -> RpcServer[Request, Response]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


class _Handlers:
    """What runs in a server: its sessions, and the tasks of handlers that wait for something."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.runner: EagerRunner = eager_runner(loop)
        self.sessions: set[ServerSession[Any, Any]] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.draining = False

    def drain(self) -> None:
        """Accept no more: RPCs of the sessions that there are, and sessions."""
        self.draining = True
        for session in self.sessions:
            session.draining = True

    async def wait(self, timeout: float | None) -> None:
        """Wait until the handlers that run now have ended, `timeout` seconds at most."""
        tasks = self.tasks - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)


class _Session(ServerSession[Request, Response]):
    """The session of one connection, with tasks for handlers."""

    def __init__(
        self,
        response: MessageType[Response],
        max_concurrent_rpcs: int,
        service: ServiceFactory[Request, Response],
        handlers: _Handlers,
    ) -> None:
        super().__init__(response, max_concurrent_rpcs)
        self._make_service = service
        self._service: ConnectionService[Request, Response] | None = None
        self._handlers = handlers

    def on_open(self, connection: Connection[Envelope[Request], Response]) -> None:
        super().on_open(connection)
        if self._handlers.draining:  # its handshake took longer than the server was to live
            connection.close()
            return
        self._handlers.sessions.add(self)
        self._service = self._make_service(connection)

    def on_close(self, cause: Exception | None) -> None:
        super().on_close(cause)
        self._handlers.sessions.discard(self)
        if isinstance(cause, ProtocolError):
            self.warn("the client broke the protocol: %s", cause)
        elif isinstance(cause, OSError):
            _log.info("%s: the connection was lost: %s", self._peer(), cause)
        elif cause is not None:
            _log.error("%s: the connection failed", self._peer(), exc_info=cause)
        if self._service is not None:
            self._service.on_close(cause)

    def warn(self, text: str, *args: object) -> None:
        _log.warning("%s: " + text, self._peer(), *args)

    def _peer(self) -> object:
        return self.sender().get_extra_info("peername") or "a local client"

    def start(
        self, rpc: ServerRpc[Request, Response], request: Request
    ) -> asyncio.Task[None] | None:
        task = self._handlers.runner.start(self._handle(rpc, request))
        if task is not None:
            self._handlers.tasks.add(task)
            task.add_done_callback(self._handlers.tasks.discard)
        return task

    async def _handle(self, rpc: ServerRpc[Request, Response], request: Request) -> None:
        """Run one RPC. Whatever happens, the client is answered exactly once."""
        try:
            assert self._service is not None
            answer = self._service.new_rpc(request)
            if isinstance(answer, Awaitable):
                response = await answer
                connection = self.sender()
                if not connection.writable:
                    await connection.drain()
                rpc.reply(response)
            elif isinstance(answer, AsyncIterable):
                await self._stream(rpc, answer)
            elif answer is REJECTED:
                rpc.fail()
            else:
                raise TypeError(
                    f"new_rpc returned {answer!r}, which is neither an awaitable, nor an async "
                    "iterable, nor REJECTED"
                )
        except BaseException as error:
            self._failed(rpc, error)

    async def _stream(
        self, rpc: ServerRpc[Request, Response], responses: AsyncIterable[Response]
    ) -> None:
        rpc.streams_replies = True
        connection = self.sender()
        iterator = responses.__aiter__()
        try:
            sent = 0
            async for response in iterator:
                if not connection.writable:
                    await connection.drain()
                if rpc.ended:
                    break
                rpc.send(response)
                sent += 1
                if not connection.writable:
                    await connection.drain()
                elif sent % _BURST == 0:
                    await asyncio.sleep(0)
            if not connection.writable:
                await connection.drain()
            rpc.finish()
        finally:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    def _failed(self, rpc: ServerRpc[Request, Response], error: BaseException) -> None:
        loop = self._handlers.loop
        if loop.is_closed():
            return  # the interpreter disposes of what the loop has left behind
        told = rpc.ended or self.sender().closing
        if not (told and isinstance(error, (asyncio.CancelledError, ConnectionClosed))):
            _log.error(
                "%s: the handler of RPC %d raised %s",
                self._peer(),
                rpc.id,
                type(error).__name__,
                exc_info=error,
            )
        rpc.fail()
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            # As out of any task, these end the loop: once the client has been told.
            loop.call_soon(_raise, error)


def _raise(error: BaseException) -> None:
    raise error
