"""Busy polling: while an answer is due, and for a while after each traffic, the loop never sleeps.

A loop that sleeps has to be woken by the system, which takes longer than a small call. A callback
that is always due keeps the loop from sleeping: it looks for events, finds none, and looks again.
It costs a core for as long as it lasts, so it ends soon after the traffic does.
"""

from __future__ import annotations

import time
from contextvars import Context
from typing import Any, Final
from weakref import WeakValueDictionary

from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection, Registry
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.polled import PolledConnection
from protosocket_rpc.raw.reactor import Reactor

# Seconds between two looks whether an answer is still due.
_RECHECK: Final = 0.0005


class BusyPoller:
    """Keeps one event loop from sleeping, for all connections on it that ask for that.

    Attributes:
        polling: true while the loop is kept from sleeping.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._context = Context()  # nobody's in particular
        self._asked = 0.0
        self._until = 0.0
        # Those with traffic since the time last ran out, or with an answer that was due then.
        self._active: set[PolledConnection[Any, Any]] = set()
        self.polling = False

    def touch(self, connection: PolledConnection[Any, Any], seconds: float, /) -> None:
        """There is traffic on `connection`: poll for so many seconds from now on, at least.

        The clock is read by the next turn of the loop.
        """
        self._active.add(connection)
        if seconds > self._asked:
            self._asked = seconds
            if not self.polling:
                self._loop.call_soon(self._poll, context=self._context)
                self.polling = True

    def forget(self, connection: PolledConnection[Any, Any], /) -> None:
        """`connection` is gone. Others may go on polling."""
        self._active.discard(connection)

    def _poll(self) -> None:
        now = time.monotonic()  # uvloop's own clock counts milliseconds
        if self._asked:
            self._until = max(self._until, now + self._asked)
            self._asked = 0.0
        elif now >= self._until:
            # Answers that come or go are traffic: it is enough to look now and then.
            self.polling = False
            self._active = {each for each in self._active if each.awaits()}
            if not self._active:
                return
            self.polling = True
            self._until = now + _RECHECK
        self._loop.call_soon(self._poll, context=self._context)


# By the loop's id, which is its own for as long as there is a poller that holds it.
_pollers: WeakValueDictionary[int, BusyPoller] = WeakValueDictionary()


def poller_of(loop: Any) -> BusyPoller:
    """The one poller of a loop: it lives as long as somebody holds it."""
    poller = _pollers.get(id(loop))
    if poller is None:
        poller = _pollers[id(loop)] = BusyPoller(loop)
    return poller


def make_connection(
    loop: Any,
    codec: Codec[Inbound, Outbound],
    reactor: Reactor[Inbound, Outbound],
    limits: Limits,
    registry: Registry | None = None,
    *,
    busy_poll: float | None = None,
    reads_only_while_writable: bool = False,
) -> Connection[Inbound, Outbound]:
    """A connection: with busy polling, or one that knows nothing of it.

    Args:
        busy_poll: how many seconds to poll after each traffic, and while an answer is due; None
            for not at all.

    The other arguments are those of `Connection`.
    """
    if busy_poll is None:
        return Connection(
            loop,
            codec,
            reactor,
            limits,
            registry,
            reads_only_while_writable=reads_only_while_writable,
        )
    return PolledConnection(
        loop,
        codec,
        reactor,
        limits,
        registry,
        poller_of(loop),
        busy_poll,
        reads_only_while_writable=reads_only_while_writable,
    )
