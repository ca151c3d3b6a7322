"""The names of the package ``grpc_status``: ``from protosocket_rpc.compat.grpc_status import ...``.

``rpc_status.from_call`` takes what ``except AioRpcError as error`` gives, and
``rpc_status.aio.from_call`` a call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final

from protosocket_rpc.service.rich_status import from_call, from_error, to_status

rpc_status: Final = SimpleNamespace(
    from_call=from_error,
    to_status=to_status,
    aio=SimpleNamespace(from_call=from_call),
)
