"""Gives calls their connections: found by name, made when needed, used in turn, made again.

::

    Channel ── one per event loop ──> Connector ── one per connection ──> Subchannel
                                          └── resolver: target -> endpoints
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextvars import Context
from typing import TYPE_CHECKING, Final

from protosocket_rpc.eager import eager_runner, start_later
from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.forks import release_socket
from protosocket_rpc.raw import Limits, parse_addresses
from protosocket_rpc.service.backoff import Backoff
from protosocket_rpc.service.call import Call
from protosocket_rpc.service.channel_connection import ChannelConnection
from protosocket_rpc.service.connectivity import ChannelConnectivity, ClientConnectivity
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.resolver import Endpoint, has_names, resolve
from protosocket_rpc.service.subchannel import Refused, Subchannel
from protosocket_rpc.service.upkeep import Upkeep
from protosocket_rpc.status import CANCELLED, UNAVAILABLE

if TYPE_CHECKING:
    from protosocket_rpc.service.credentials import ChannelCredentials
    from protosocket_rpc.service.limits import RpcLimits

_log = logging.getLogger("protosocket_rpc.channel")

CLOSE_TIMEOUT: Final = 1.0
# Seconds between two times that a name is looked up, however many connections are lost.
_RESOLVE_PAUSE: Final = 1.0

_IDLE = ChannelConnectivity.IDLE
_CONNECTING = ChannelConnectivity.CONNECTING
_READY = ChannelConnectivity.READY
_FAILED = ChannelConnectivity.TRANSIENT_FAILURE
_SHUTDOWN = ChannelConnectivity.SHUTDOWN


class Connector:
    """The connections to one target, on one event loop.

    Attributes:
        session: the connection that calls are to use, if there is exactly one. If it is None,
            calls `wait`, which may well be for nothing.
        ready: every connection that takes calls.
        leaving: connections that are still open for the calls that they have, and take no more.
        state: as in gRPC.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        target: str,
        credentials: ChannelCredentials,
        server_hostname: str | None,
        limits: RpcLimits,
        connectivity: ClientConnectivity,
        connections: int,
    ) -> None:
        self.loop = loop
        self.deadlines = Deadlines(loop)
        # Starts what interceptors do.
        self.runner = eager_runner(loop)
        self.target = target
        self.server_hostname = server_hostname
        self.limits = limits
        self.max_frame_size = limits.max_frame_size  # one number for all connections
        self.raw_limits = Limits(
            max_buffer=self.max_frame_size + 64, max_queued_output=limits.max_queued_output
        )
        self.credentials = credentials
        self.connectivity = connectivity
        self.session: ChannelConnection | None = None
        self.ready: list[ChannelConnection] = []
        self.leaving: set[ChannelConnection] = set()
        self.state = _IDLE
        self._connections = connections
        self._addresses = parse_addresses(target)
        self._has_names = has_names(self._addresses)
        self._endpoints: dict[Endpoint, list[Subchannel]] = {}
        self._some_idle = False
        # Whose turn it is. Not everybody is to begin with the same address.
        self._turn = random.randrange(1 << 16)
        self._waiting: list[Call] = []
        # Calls whose credentials are asked for their metadata, by the tasks that do so.
        self.authenticating: dict[asyncio.Task[None], Call] = {}
        # Who waits for a change; True for those who want to see the channel recover.
        self._watchers: dict[asyncio.Future[None], bool] = {}
        # Why there is no connection, if there is none.
        self.error: Exception | None = None
        self._resolving: asyncio.Task[None] | None = None
        self._resolve_at = 0.0
        self._resolve_timer: asyncio.TimerHandle | None = None
        self._backoff = Backoff(connectivity.first_backoff, connectivity.longest_backoff)
        self._upkeep = Upkeep(
            loop, (connectivity.keepalive_interval, connectivity.keepalive_timeout), self._visit
        )

    # -- for calls -------------------------------------------------------------------------

    def wait(self, call: Call) -> None:
        """Open the call, as soon as there is a connection; fail it if none is to be had."""
        ready = self.ready
        if ready:
            count = len(ready)
            self._turn = turn = self._turn + 1
            session = ready[turn % count]
            while not session.sender().writable and turn < self._turn + count:
                turn += 1  # one that does not read is passed over
                session = ready[turn % count]
            call.open_on(session, self.loop.time())
            if self._some_idle:
                self.connect()
        elif self.state is _SHUTDOWN:
            call.fail(CANCELLED, "Channel is closed.", None)
        elif (
            self.state is _FAILED
            and not call.wait_for_ready
            and self.loop.time() < self._retry_at()
        ):
            self._fail(call)
        else:
            if not call.started:
                call.started = self.loop.time()
            self._waiting.append(call)
            self.connect()

    async def wait_for_change(self, call: Call | None = None, *, recover: bool = True) -> None:
        """Wait until the state, or the set of connections, is another; or `call` has ended.

        What has failed is tried again meanwhile, unless `recover` is False.
        """
        watcher = self.loop.create_future()
        self._watchers[watcher] = recover
        if call is not None:
            call.add_done_callback(lambda _: _wake(watcher))
        if recover and self.state is _FAILED:
            self.connect()
        try:
            await watcher
        finally:
            self._watchers.pop(watcher, None)

    @property
    def greeted(self) -> bool:
        """True if there is a connection, and what answers there speaks this protocol."""
        return any(session.peer is not None for session in self.ready)

    async def wait_for_state_change(self, last: ChannelConnectivity) -> None:
        """Wait until the state is another than `last`."""
        while self.state is last:
            await self.wait_for_change()

    def on_closing(self, session: ChannelConnection) -> None:
        """A call found `session` closing, before that was reported."""
        session.subchannel.on_gone(session)

    # -- connecting ------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin to connect, wherever there is neither a connection nor an attempt."""
        if self._endpoints:
            for subchannel in self._subchannels():
                subchannel.connect()
        else:
            self._resolve_soon()

    def _subchannels(self) -> list[Subchannel]:
        return [each for subchannels in self._endpoints.values() for each in subchannels]

    @property
    def sessions(self) -> list[ChannelConnection]:
        """Every connection that is open."""
        current = [each.session for each in self._subchannels() if each.session is not None]
        return current + list(self.leaving)

    def _retry_at(self) -> float:
        """When the next attempt is due."""
        if not self._endpoints:
            return self._resolve_at
        return min([subchannel.retry_at for subchannel in self._subchannels()])

    def on_change(self, subchannel: Subchannel) -> None:
        """A subchannel has another state."""
        if self.state is _SHUTDOWN:
            return
        state = subchannel.state
        if state is _FAILED:
            self.error = subchannel.error
        self._refresh()
        if state is _READY:
            self._upkeep.start()
            if self._resolve_timer is None:
                self._plan_to_resolve()
        elif state is _FAILED:
            self.look_again()
        self._serve_waiting()
        # A connection that is not needed is not made again. One that has failed is, if there are
        # others: to have them all.
        if self._waiting or (state is _FAILED and (self.ready or self._to_recover())):
            subchannel.connect()
        self.wake_watchers()

    def _refresh(self) -> None:
        subchannels = self._subchannels()
        self.ready = [each.session for each in subchannels if each.state is _READY and each.session]
        states = {each.state for each in subchannels}
        self._some_idle = _IDLE in states
        one = len(self.ready) == 1 and not self._some_idle
        self.session = self.ready[0] if one else None
        if self.ready:
            self.state = _READY
        elif _CONNECTING in states or not subchannels:
            self.state = _CONNECTING
        elif self._some_idle:
            self.state = _IDLE
        else:
            self.state = _FAILED

    def _serve_waiting(self) -> None:
        """Open the calls that wait, or fail them, or let them go on waiting."""
        if not self._waiting or not (self.ready or self.state is _FAILED):
            return
        waiting = self._waiting
        self._waiting = []
        for call in waiting:
            if not call.finished:
                self.wait(call)

    def _fail(self, call: Call) -> None:
        error = self.error
        if isinstance(error, Refused):
            call.fail(error.code, f"{self.target}: {error}", error)
        else:
            why = str(error) or type(error).__name__
            call.fail(UNAVAILABLE, f"failed to connect to {self.target}: {why}", error)

    def _to_recover(self) -> bool:
        """Whether anybody wants to see it recover."""
        return any(self._watchers.values())

    def wake_watchers(self) -> None:
        """There is something else to see: for those who `wait_for_change`."""
        watchers = self._watchers
        self._watchers = {}
        for watcher in watchers:
            _wake(watcher)

    # -- finding the endpoints -------------------------------------------------------------

    def look_again(self) -> None:
        """A server is gone: there may be another address for it."""
        if self._has_names:
            self._resolve_soon()

    def _resolve_soon(self) -> None:
        """Look the target up, unless that is under way; not too often."""
        if self._resolving is None and self.state is not _SHUTDOWN:
            # Nobody's in particular, though a handler's call may be what needs it.
            self._resolving = Context().run(start_later, self.loop, self._resolve())

    async def _resolve(self) -> None:
        delay = self._resolve_at - self.loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        if not self._endpoints:
            self._refresh()
            self.wake_watchers()
        try:
            endpoints = await resolve(self.loop, self._addresses, balance=self.connectivity.balance)
        except Exception as error:  # whatever it is, it is why there is no address
            self._resolving = None
            self._on_unresolved(error)
        else:
            self._resolving = None
            self._on_resolved(endpoints)

    def _on_resolved(self, endpoints: list[Endpoint]) -> None:
        self._backoff.reset()
        self._resolve_at = self.loop.time() + _RESOLVE_PAUSE
        old = self._endpoints
        self._endpoints = {}
        new: list[Subchannel] = []
        for endpoint in endpoints:
            subchannels = old.pop(endpoint, None)
            if subchannels is None:
                subchannels = [Subchannel(self, endpoint) for _ in range(self._connections)]
                new += subchannels
            self._endpoints[endpoint] = subchannels
        for subchannels in old.values():
            for subchannel in subchannels:
                subchannel.retire()
        self._plan_to_resolve()
        for subchannel in new:
            subchannel.connect()
        if old:
            self._refresh()
            self.wake_watchers()

    def _on_unresolved(self, error: Exception) -> None:
        self._resolve_at = self.loop.time() + self._backoff.next()
        self._plan_to_resolve()
        if not self._endpoints:
            self.error = error
            self.state = _FAILED
            self._serve_waiting()
            if self._waiting or self._to_recover():
                self._resolve_soon()
            self.wake_watchers()

    def _plan_to_resolve(self) -> None:
        interval = self.connectivity.resolve_interval
        if self._resolve_timer is not None:
            self._resolve_timer.cancel()
            self._resolve_timer = None
        if self._has_names and interval is not None:
            self._resolve_timer = self.loop.call_later(interval, self._resolve_again)

    def _resolve_again(self) -> None:
        self._resolve_timer = None
        if self.ready:  # nobody needs to know otherwise, until there is a connection again
            self._resolve_at = self.loop.time()
            self._resolve_soon()

    def on_failure(self, peer_name: str, error: Exception) -> None:
        """A connection is about to be closed for what the server did."""
        _log.warning("closing the connection to %s: %s", peer_name, error)

    # -- keeping ---------------------------------------------------------------------------

    def _visit(self, now: float) -> bool:
        """Look after each connection; False if there are none any more."""
        interval = self.connectivity.keepalive_interval
        timeout = self.connectivity.keepalive_timeout
        for session in self.sessions:
            session.remember(now)
            if interval is not None and not session.keep_alive(now, interval, timeout):
                session.sender().abort(
                    ConnectionClosed(f"the server has not answered a ping within {timeout:g} s")
                )
        return bool(self.sessions)

    # -- the end ---------------------------------------------------------------------------

    async def close(self, grace: float | None) -> None:
        """Let calls end for `grace` seconds, cancel the rest, and close."""
        calls = self._calls()
        if grace and calls:
            ends = [asyncio.ensure_future(call._wait_end()) for call in calls]
            _, pending = await asyncio.wait(ends, timeout=grace)
            for end in pending:
                end.cancel()
        self.shut_down()
        tasks = [task for task in (self._resolving, *self._attempts()) if task is not None]
        tasks += self.authenticating
        if tasks:
            await asyncio.wait(tasks)
        connections = [session.sender() for session in self.sessions]
        closed = asyncio.gather(*[each.wait_closed() for each in connections])
        try:
            await asyncio.wait_for(closed, CLOSE_TIMEOUT)
        except asyncio.TimeoutError:  # a server does not read what is still to be sent
            for connection in connections:
                connection.abort(ConnectionClosed("the channel was closed"))
                await connection.wait_closed()

    def shut_down(self) -> None:
        """Cancel all calls, and begin to close."""
        if self.state is _SHUTDOWN:
            return
        self._stop()
        if self._resolving is not None:
            self._resolving.cancel()
        for attempt in self._attempts():
            attempt.cancel()
        for call in self._calls():
            call.cancel()
        self._waiting.clear()
        for session in self.sessions:
            session.sender().close()
        self.deadlines.close()
        self.runner.close()
        self.wake_watchers()

    def leave_to_parent(self) -> None:
        """In a forked child: touch nothing that the parent goes on using."""
        self._stop()
        for session in self.sessions:
            release_socket(session.sender().get_extra_info("socket"))

    def _stop(self) -> None:
        """No further connection, timer or call."""
        self.state = _SHUTDOWN
        self.session = None
        self.ready = []
        self._upkeep.stop()
        if self._resolve_timer is not None:
            self._resolve_timer.cancel()
        for subchannel in self._subchannels():
            subchannel.stop()

    def _attempts(self) -> list[asyncio.Task[None]]:
        attempts = [each.attempt for each in self._subchannels()]
        return [attempt for attempt in attempts if attempt is not None]

    def _calls(self) -> list[Call]:
        calls = [*self._waiting, *self.authenticating.values()]
        calls = [call for call in calls if not call.finished]
        for session in self.sessions:
            calls.extend(rpc for rpc in session.rpcs.values() if isinstance(rpc, Call))
        return calls


def _wake(watcher: asyncio.Future[None]) -> None:
    if not watcher.done():
        watcher.set_result(None)
