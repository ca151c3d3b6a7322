"""One connection to a target, made when it is needed and again when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl as ssl_module
from collections import deque
from contextvars import Context
from enum import Enum
from typing import Final

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw import Limits
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.endpoints import open_transport
from protosocket_rpc.service.call import Call
from protosocket_rpc.service.channel_connection import ChannelConnection
from protosocket_rpc.service.client_session import ClientSession
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.status import CANCELLED, UNAVAILABLE
from protosocket_rpc.wire.codec import FrameCodec

_log = logging.getLogger("protosocket_rpc.channel")

# Seconds; gRPC's connection backoff, with an earlier first retry.
FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 20.0
BACKOFF_FACTOR: Final = 1.6
BACKOFF_JITTER: Final = 0.2
CONNECT_TIMEOUT: Final = 20.0
CLOSE_TIMEOUT: Final = 1.0


class ChannelConnectivity(Enum):
    """The state of a channel, as in gRPC."""

    IDLE = (0, "idle")
    CONNECTING = (1, "connecting")
    READY = (2, "ready")
    TRANSIENT_FAILURE = (3, "transient failure")
    SHUTDOWN = (4, "shutdown")


class Connector:
    """Gives calls a connection to one target, on one event loop.

    Attributes:
        session: the connection that calls are to use; None while there is none.
        state: as in gRPC.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        target: str,
        ssl: ssl_module.SSLContext | None,
        server_hostname: str | None,
        limits: RpcLimits,
    ) -> None:
        self.loop = loop
        self.deadlines = deadlines
        self.target = target
        self.limits = limits
        self._ssl = ssl
        self._server_hostname = server_hostname
        self.session: ChannelConnection | None = None
        self.state = ChannelConnectivity.IDLE
        self._connecting: asyncio.Task[None] | None = None
        self._waiting: deque[Call] = deque()
        self._connected: list[asyncio.Future[None]] = []
        self._state_waiters: list[asyncio.Future[None]] = []
        self._backoff = 0.0
        self._retry_at = 0.0
        self._last_error: Exception | None = None
        self._sessions: set[ChannelConnection] = set()

    # -- for calls -------------------------------------------------------------------------

    def wait(self, call: Call) -> None:
        """Open the call when there is a connection; fail it if none is to be had."""
        if self.state is ChannelConnectivity.SHUTDOWN:
            call.fail(CANCELLED, "Channel is closed.", None)
        elif (
            self._last_error is not None
            and not call.wait_for_ready
            and self.loop.time() < self._retry_at
        ):
            self._fail(call, self._last_error)
        else:
            self._waiting.append(call)
            self.connect()

    async def wait_connected(self, call: Call) -> None:
        """Wait until something has changed for a call that waits for a connection."""
        waiter = self.loop.create_future()
        self._connected.append(waiter)
        call.add_done_callback(lambda _: _wake(waiter))
        await waiter

    def connect(self) -> None:
        """Begin to connect, unless there is a connection or an attempt."""
        if self.session is None and self._connecting is None:
            # A connection is nobody's in particular, though a handler's call may be what needs it.
            self._connecting = Context().run(self.loop.create_task, self._connect())

    def describe(self, path: str, session: ClientSession | None) -> str:
        """Where a call went, for people."""
        peer = session.peer_name if isinstance(session, ChannelConnection) else "none yet"
        return f"target={self.target} peer={peer} method={path} channel={self.state.name}"

    # -- connecting ------------------------------------------------------------------------

    async def _connect(self) -> None:
        try:
            while True:
                delay = self._retry_at - self.loop.time()
                if delay > 0:
                    await asyncio.sleep(delay)
                self._set_state(ChannelConnectivity.CONNECTING)
                try:
                    session = await asyncio.wait_for(self._open(), CONNECT_TIMEOUT)
                except (OSError, asyncio.TimeoutError) as error:
                    self._on_failed(error)
                    if not self._waiting:
                        return
                else:
                    self._on_connected(session)
                    return
        finally:
            self._connecting = None

    async def _open(self) -> ChannelConnection:
        session = ChannelConnection(self)
        connection = Connection(
            self.loop,
            FrameCodec(self.limits.max_frame_size),
            session,
            Limits(
                max_buffer=self.limits.max_frame_size + 64,
                max_queued_output=self.limits.max_queued_output,
            ),
        )
        await open_transport(
            self.loop, lambda: connection, self.target, self._ssl, self._server_hostname
        )
        return session

    def _on_connected(self, session: ChannelConnection) -> None:
        self._backoff = 0.0
        self._retry_at = 0.0
        self._last_error = None
        self._sessions.add(session)
        if session.lost:
            self.on_gone(session)
            return
        self.session = session
        self._set_state(ChannelConnectivity.READY)
        waiting = self._waiting
        self._waiting = deque()
        for call in waiting:
            if not call.finished:
                call.open_on(session)
        self._wake_connected()

    def _on_failed(self, error: Exception) -> None:
        if isinstance(error, asyncio.TimeoutError) and not str(error):
            error = TimeoutError(f"no connection within {CONNECT_TIMEOUT:g} seconds")
        self._last_error = error
        self._backoff = min(max(self._backoff * BACKOFF_FACTOR, FIRST_BACKOFF), LONGEST_BACKOFF)
        jitter = 1.0 + random.uniform(-BACKOFF_JITTER, BACKOFF_JITTER)
        self._retry_at = self.loop.time() + self._backoff * jitter
        self._set_state(ChannelConnectivity.TRANSIENT_FAILURE)
        waiting = self._waiting
        self._waiting = deque()
        for call in waiting:
            if call.finished:
                continue
            if call.wait_for_ready:
                self._waiting.append(call)
            else:
                self._fail(call, error)
        self._wake_connected()

    def _fail(self, call: Call, error: Exception) -> None:
        call.fail(UNAVAILABLE, f"failed to connect to {self.target}: {error or type(error)}", error)

    def _wake_connected(self) -> None:
        waiters = self._connected
        self._connected = []
        for waiter in waiters:
            _wake(waiter)

    def on_gone(self, session: ChannelConnection) -> None:
        """A connection takes no more calls."""
        if session.lost:
            self._sessions.discard(session)
        if session is self.session:
            self.session = None
            if self.state is not ChannelConnectivity.SHUTDOWN:
                self._set_state(ChannelConnectivity.IDLE)

    def on_failure(self, error: Exception) -> None:
        """A connection is about to be closed for what the server did."""
        _log.warning("closing the connection to %s: %s", self.target, error)

    # -- states ----------------------------------------------------------------------------

    def _set_state(self, state: ChannelConnectivity) -> None:
        if state is self.state or self.state is ChannelConnectivity.SHUTDOWN:
            return
        self.state = state
        waiters = self._state_waiters
        self._state_waiters = []
        for waiter in waiters:
            _wake(waiter)

    async def wait_for_state_change(self, last: ChannelConnectivity) -> None:
        """Wait until the state is another than `last`."""
        while self.state is last:
            waiter = self.loop.create_future()
            self._state_waiters.append(waiter)
            await waiter

    # -- the end ---------------------------------------------------------------------------

    async def close(self, grace: float | None) -> None:
        """Let calls end for `grace` seconds, cancel the rest, and close."""
        if self.state is ChannelConnectivity.SHUTDOWN:
            return
        calls = [call for call in self._calls() if not call.finished]
        if grace and calls:
            ends = [asyncio.ensure_future(call._wait_end()) for call in calls]
            _, pending = await asyncio.wait(ends, timeout=grace)
            for end in pending:
                end.cancel()
        self._set_state(ChannelConnectivity.SHUTDOWN)
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait([connecting])
        for call in self._calls():
            call.cancel()
        self._waiting.clear()
        self.session = None
        for session in list(self._sessions):
            session.sender().close()
            done, _ = await asyncio.wait([session.closed], timeout=CLOSE_TIMEOUT)
            if not done:  # the server does not read what is still to be sent
                session.sender().abort(ConnectionClosed("the channel was closed"))
                await session.closed

    def _calls(self) -> list[Call]:
        calls = [call for call in self._waiting if not call.finished]
        for session in self._sessions:
            calls.extend(rpc for rpc in session.rpcs.values() if isinstance(rpc, Call))
        return calls


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
