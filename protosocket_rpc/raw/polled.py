"""A connection whose traffic keeps the event loop polling. See `busy_poll`.

To look whether bytes have arrived takes a fraction of a turn of the event loop. So between two
turns the connection looks by itself, a few times, and receives what it finds: what follows from it,
such as a server's reply, has left before the loop would have noticed. The transport, which still
watches the socket, finds nothing to read then.
"""

from __future__ import annotations

import os
import select
from typing import Any, Final, Protocol

from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection, Registry
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor

# Looks for bytes between two turns of the loop, of about half a microsecond each: everything else
# on the loop waits for no more than that.
LOOKS: Final = 16

# More than that is left to the transport, whose reads are larger.
_MOST_PER_READ: Final = 64 * 1024

# Anything else that the system says of the socket is for the transport to hear.
_BYTES_ONLY: Final = 1  # select.POLLIN, where there is poll() at all


class Poller(Protocol):
    """Keeps an event loop polling."""

    def touch(self, connection: PolledConnection[Any, Any], seconds: float, /) -> None:
        """There is traffic on `connection`: poll for so many seconds from now on."""
        ...  # a protocol has no body

    def forget(self, connection: PolledConnection[Any, Any], /) -> None:
        """`connection` is gone."""
        ...  # a protocol has no body


class PolledConnection(Connection[Inbound, Outbound]):
    """A connection that tells a poller of whatever it receives and sends."""

    __slots__ = ("_fd", "_poll_seconds", "_poller", "_ready")

    def __init__(
        self,
        loop: Any,
        codec: Codec[Inbound, Outbound],
        reactor: Reactor[Inbound, Outbound],
        limits: Limits,
        registry: Registry | None,
        poller: Poller,
        poll_seconds: float,
        *,
        reads_only_while_writable: bool = False,
    ) -> None:
        """As `Connection`.

        Args:
            poller: that of `loop`.
            poll_seconds: how long to poll from each traffic on.
        """
        super().__init__(
            loop,
            codec,
            reactor,
            limits,
            registry,
            reads_only_while_writable=reads_only_while_writable,
        )
        self._poller = poller
        self._poll_seconds = poll_seconds
        self._fd = -1
        self._ready: Any = None  # says what has arrived, after so many milliseconds

    def connection_made(self, transport: Any) -> None:
        sock = transport.get_extra_info("socket")
        # TLS reads for itself; what stays in memory has no socket; Windows has no poll().
        plain = sock is not None and transport.get_extra_info("sslcontext") is None
        if plain and hasattr(select, "poll"):
            self._fd = sock.fileno()
            poll = select.poll()
            poll.register(self._fd, _BYTES_ONLY)
            self._ready = poll.poll
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._poller.touch(self, self._poll_seconds)
        super().data_received(data)

    def write(self, data: bytes) -> None:
        self._poller.touch(self, self._poll_seconds)
        super().write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ready = None
        self._poller.forget(self)
        super().connection_lost(exc)

    def look(self) -> None:
        """Look for bytes a few times, and receive the first that are there."""
        ready = self._ready
        if (
            ready is None
            or self._closing
            or self._eof
            or self._stalled
            or self._reading_paused
            or self._transport.is_closing()
        ):
            return
        for _ in range(LOOKS):
            found = ready(0)
            if found:
                if found[0][1] == _BYTES_ONLY:
                    self._read()
                return

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _MOST_PER_READ)
        except BlockingIOError:
            return
        except OSError as error:  # the system tells it once only: the transport will not hear it
            self.abort(error)
            return
        if data:  # the peer's end, which the transport hears as well
            self.data_received(data)
