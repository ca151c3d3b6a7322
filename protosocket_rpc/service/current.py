"""The RPC that the running handler serves: what calls made inside it inherit from."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protosocket_rpc.service.context import ServicerContext

CURRENT_RPC: ContextVar[ServicerContext[Any, Any] | None] = ContextVar(
    "protosocket_rpc.current_rpc", default=None
)
