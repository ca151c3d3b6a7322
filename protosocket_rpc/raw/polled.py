"""A connection whose traffic keeps the event loop polling. See `busy_poll`."""

from __future__ import annotations

from typing import Any, Protocol

from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.connection import Connection, Registry
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor


class Poller(Protocol):
    """Keeps an event loop polling."""

    def touch(self, connection: PolledConnection[Any, Any], seconds: float, /) -> None:
        """There is traffic on `connection`: poll for so many seconds from now on, at least."""
        ...  # a protocol has no body

    def forget(self, connection: PolledConnection[Any, Any], /) -> None:
        """`connection` is gone."""
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

    def awaits(self) -> bool:
        """True while an answer is due, to the peer or from it."""
        return self._reactor.awaits()

    def data_received(self, data: bytes) -> None:
        self._poller.touch(self, self._poll_seconds)
        super().data_received(data)

    def filled(self, size: int) -> None:
        self._poller.touch(self, self._poll_seconds)
        super().filled(size)

    def write(self, data: bytes) -> None:
        self._poller.touch(self, self._poll_seconds)
        super().write(data)

    def write_parts(self, parts: list[Any]) -> None:
        self._poller.touch(self, self._poll_seconds)
        super().write_parts(parts)

    def connection_lost(self, exc: Exception | None) -> None:
        self._poller.forget(self)
        super().connection_lost(exc)
