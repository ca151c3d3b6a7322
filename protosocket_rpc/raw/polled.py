"""A connection whose traffic keeps the event loop polling. See `busy_poll`."""

from __future__ import annotations

from typing import Any, Protocol

from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection, Registry
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor


class Poller(Protocol):
    """Keeps an event loop polling."""

    def touch(self, seconds: float, /) -> None:
        """There is traffic: poll for so many seconds from now on."""
        ...  # a protocol has no body


class PolledConnection(Connection[Inbound, Outbound]):
    """A connection that tells a poller of whatever it receives and sends."""

    __slots__ = ("_poll_seconds", "_poller")

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

    def data_received(self, data: bytes) -> None:
        self._poller.touch(self._poll_seconds)
        super().data_received(data)

    def write(self, data: bytes) -> None:
        self._poller.touch(self._poll_seconds)
        super().write(data)
