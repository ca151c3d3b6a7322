"""The RPC that the running handler serves: what calls made inside it inherit from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext

CURRENT_RPC: ContextVar[ServicerContext[Any, Any] | None] = ContextVar(
    "protosocket_rpc.current_rpc", default=None
)


@contextmanager
def detached() -> Iterator[None]:
    """Calls made inside of the block inherit nothing from the RPC that the handler serves.

    Without it, a call made in a handler (or in a task that a handler started) has no more time
    than what is left of the handler's own deadline, and is cancelled when the handler's RPC is
    cancelled, expires, or loses its client. For work that is to be done whatever becomes of the
    caller: a task that is started inside of the block is detached as well.
    """
    token = CURRENT_RPC.set(None)
    try:
        yield
    finally:
        CURRENT_RPC.reset(token)
