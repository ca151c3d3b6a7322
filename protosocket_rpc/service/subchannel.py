"""One connection of a channel: none, being made, or one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Final

from protosocket_rpc.eager import start_later
from protosocket_rpc.errors import ConnectionClosed, PeerRefused
from protosocket_rpc.raw import Address
from protosocket_rpc.raw.busy_poll import make_connection
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.endpoints import open_transport
from protosocket_rpc.service.backoff import Backoff
from protosocket_rpc.service.channel_connection import ChannelConnection
from protosocket_rpc.service.connectivity import ChannelConnectivity
from protosocket_rpc.service.resolver import Endpoint
from protosocket_rpc.status import OK
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    from protosocket_rpc.service.connector import Connector

# Seconds that an attempt to connect is ahead of the one to the same server's next address.
_HEAD_START: Final = 0.25
# Seconds that a server has to send its settings, before it is taken for one that sends none.
_GREETING: Final = 1.0
_NOT_NEEDED: Final = "the connection is not needed any more"


class Refused(ConnectionClosed):
    """The server took the connection, only to say that it does not serve it.

    Attributes:
        code: the status code that says why.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code

    def __str__(self) -> str:
        return f"the server refused the connection: {self.args[1]}"


def _abandon(attempts: Iterable[asyncio.Task[ChannelConnection]]) -> None:
    """Another was first, or none is needed any more. What has connected all the same is closed."""
    for attempt in attempts:
        attempt.cancel()
        attempt.add_done_callback(_close)


def _close(attempt: asyncio.Task[ChannelConnection]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().sender().abort(ConnectionClosed(_NOT_NEEDED))


class Subchannel:
    """Keeps a connection to one endpoint, for a `Connector`.

    Attributes:
        session: the connection; None while there is none that takes calls.
        state: as in gRPC.
        error: why the last attempt failed; None if it did not.
        attempt: the task that connects; None if there is none.
        retry_at: no attempt before that, in the loop's time.
    """

    __slots__ = (
        "_backoff",
        "_closed",
        "_greeting",
        "attempt",
        "connector",
        "endpoint",
        "error",
        "retry_at",
        "session",
        "state",
    )

    def __init__(self, connector: Connector, endpoint: Endpoint) -> None:
        self.connector = connector
        self.endpoint = endpoint
        self.session: ChannelConnection | None = None
        self.state = ChannelConnectivity.IDLE
        self.error: Exception | None = None
        self.retry_at = 0.0
        self._backoff: Backoff | None = None  # before the first failure
        self.attempt: asyncio.Task[None] | None = None
        self._greeting: asyncio.TimerHandle | None = None
        self._closed = False

    def connect(self) -> None:
        """Begin to connect, unless there is a connection or an attempt, or one to come."""
        if self.session is None and self.attempt is None and not self._closed:
            # A connection is nobody's in particular, though a handler's call may be what needs it.
            self.attempt = Context().run(start_later, self.connector.loop, self._connect())

    def stop(self) -> None:
        """Make no further connection. What there is stays."""
        self._closed = True
        self._end_greeting()

    def retire(self) -> None:
        """The endpoint is gone: let the calls in flight end, and close."""
        self.stop()
        if self.attempt is not None:
            self.attempt.cancel()
        session = self.session
        if session is not None:
            self._let_go(session)
            session.retire()

    # -- one attempt -----------------------------------------------------------------------

    async def _connect(self) -> None:
        loop = self.connector.loop
        delay = self.retry_at - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        self._set_state(ChannelConnectivity.CONNECTING)
        timeout = self.connector.connectivity.connect_timeout
        try:
            session = await asyncio.wait_for(self._open_any(), timeout)
        except Exception as error:  # whatever it is, it is why there is no connection
            self.attempt = None
            if isinstance(error, asyncio.TimeoutError) and not str(error):
                error = TimeoutError(f"no connection within {timeout:g} seconds")
            self._on_failed(error)
        else:
            self.attempt = None
            if self._closed:
                session.sender().abort(ConnectionClosed(_NOT_NEEDED))
            else:
                self._on_connected(session)

    async def _open_any(self) -> ChannelConnection:
        """Try the addresses one after the other, each with a head start, until one answers."""
        waiting = list(self.endpoint.addresses)
        if len(waiting) == 1:
            return await self._open(waiting[0])
        attempts: set[asyncio.Task[ChannelConnection]] = set()
        try:
            while True:
                if waiting:
                    attempts.add(asyncio.ensure_future(self._open(waiting.pop(0))))
                done, attempts = await asyncio.wait(
                    attempts,
                    timeout=_HEAD_START if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                winners = [attempt for attempt in done if attempt.exception() is None]
                if winners:
                    _abandon([*winners[1:], *attempts])
                    return winners[0].result()
                if not (attempts or waiting):
                    return done.pop().result()  # which raises
        except asyncio.CancelledError:
            _abandon(attempts)
            if attempts:
                await asyncio.wait(attempts)  # no attempt outlasts the channel
            raise

    async def _open(self, address: Address) -> ChannelConnection:
        connector = self.connector
        session = ChannelConnection(self)
        connection: Connection[Frame, bytes] = make_connection(
            connector.loop,
            FrameCodec(connector.max_frame_size),
            session,
            connector.raw_limits,
            busy_poll=connector.connectivity.busy_poll,
        )
        credentials = connector.credentials
        hostname = connector.server_hostname
        if credentials.ssl is not None and hostname is None:
            hostname = self.endpoint.name
        try:
            await open_transport(
                connector.loop, lambda: connection, str(address), credentials.ssl, hostname
            )
        except BaseException:
            connection.give_up()
            raise
        try:
            credentials.check(connection)
        except PeerRefused as error:
            connection.abort(error)
            raise
        return session

    def _on_connected(self, session: ChannelConnection) -> None:
        connector = self.connector
        self.session = session
        self.error = None
        if session.failure is not None:
            self.on_broken(session, session.failure)
        elif session.lost:
            self.on_lost(session, None)
        elif session.draining:
            self.on_gone(session)
        elif connector.ready and session.peer is None:
            # A server that is about to end may take a connection and never serve it. There are
            # others meanwhile, so that calls need not be risked until it has greeted.
            self._greeting = connector.loop.call_later(_GREETING, self.on_greeted, session)
        else:
            self._set_state(ChannelConnectivity.READY)

    def on_greeted(self, session: ChannelConnection) -> None:
        """The server has sent its settings; or has had the time to, and is one that sends none."""
        if session is self.session:
            if self._greeting is not None:
                self._end_greeting()
                self._set_state(ChannelConnectivity.READY)
            self.connector.wake_watchers()

    def _end_greeting(self) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None

    def _on_failed(self, error: Exception) -> None:
        self.error = error
        self._back_off()
        self._set_state(ChannelConnectivity.TRANSIENT_FAILURE)

    def _back_off(self) -> None:
        if self._backoff is None:
            connectivity = self.connector.connectivity
            self._backoff = Backoff(connectivity.first_backoff, connectivity.longest_backoff)
        self.retry_at = self.connector.loop.time() + self._backoff.next()

    # -- the end of a connection -----------------------------------------------------------

    def _let_go(self, session: ChannelConnection) -> None:
        """It takes no more calls here, though it may not be closed yet."""
        self.session = None
        if not session.lost:
            self.connector.leaving.add(session)

    def on_broken(self, session: ChannelConnection, error: Exception) -> None:
        """What answers is no server of this protocol: as bad as no answer."""
        if session is self.session:
            self._let_go(session)
            self._end_greeting()
            self._on_failed(error)

    def on_lost(self, session: ChannelConnection, cause: Exception | None) -> None:
        """A connection is lost. If the server never said a word, that is as bad as no answer.

        So it is when the server refuses a certificate, which TLS 1.3 lets it do that late.
        """
        if session is self.session and not session.heard:
            self.on_broken(session, cause or ConnectionClosed("the server closed without a word"))
        else:
            self.on_gone(session)

    def on_gone(self, session: ChannelConnection) -> None:
        """A connection takes no more calls: it is lost, or the server said so."""
        if session.lost:
            self.connector.leaving.discard(session)
        if session is not self.session:
            return
        self._let_go(session)
        self._end_greeting()
        go_away = session.go_away
        if go_away is not None and go_away.code != OK:
            self._on_failed(Refused(go_away.code, go_away.reason))
            return
        if session.heard and (go_away is None or go_away.last_id):
            self._backoff = None
            self.retry_at = 0.0
        else:  # it served nothing: not to be tried again and again without a pause
            self._back_off()
        self._set_state(ChannelConnectivity.IDLE)
        if session.used:
            self.connector.look_again()
            # A server may end what has been idle, or is too old: the next call will do then.
            if go_away is None or session.rpcs:
                self.connect()

    def _set_state(self, state: ChannelConnectivity) -> None:
        self.state = state
        self.connector.on_change(self)
