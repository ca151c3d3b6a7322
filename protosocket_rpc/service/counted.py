"""RPCs of a server with `ServerMetrics`: each is counted when it ends."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from protosocket_rpc.metadata import Pairs
from protosocket_rpc.service.context import ServicerContext
from protosocket_rpc.service.handler import Handler
from protosocket_rpc.service.metrics import REFUSED, ServerMetrics
from protosocket_rpc.status import CANCELLED, OK
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    from protosocket_rpc.service.server_connection import ServiceConnection


class CountedContext(ServicerContext[Any, Any]):
    """An RPC that is counted."""

    def __init__(
        self,
        metrics: ServerMetrics,
        connection: ServiceConnection,
        opening: Frame,
        handler: Handler,
    ) -> None:
        self._begun = perf_counter()
        self._metrics = metrics
        self._label = handler.label
        self._outcome = OK
        super().__init__(connection, opening, handler)

    def on_found(self, path: str) -> None:
        if self._label == REFUSED:
            self._label = path

    def fail(
        self,
        code: int,
        message: str,
        details: tuple[bytes, ...] = (),
        trailers: Pairs | None = None,
    ) -> None:
        if not self.ended:
            self._outcome = code
        super().fail(code, message, details, trailers)

    def on_cancel(self, message: Frame) -> None:
        self._outcome = CANCELLED
        super().on_cancel(message)

    def on_lost(self, cause: Exception | None) -> None:
        if not self.ended:
            self._outcome = CANCELLED
        super().on_lost(cause)

    def _end(self, frames: bytes) -> None:
        super()._end(frames)
        self._metrics.count(self._label, self._outcome, perf_counter() - self._begun)
