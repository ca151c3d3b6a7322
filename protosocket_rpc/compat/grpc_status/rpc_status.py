"""``google.rpc.Status`` messages of errors, and of calls; and statuses for handlers of them.

`from_call` takes what ``except AioRpcError as error`` gives, `aio.from_call` a call.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final

from protosocket_rpc.service.rich_status import GRPC_DETAILS_KEY as GRPC_DETAILS_METADATA_KEY
from protosocket_rpc.service.rich_status import from_call as _from_call
from protosocket_rpc.service.rich_status import from_error as from_call
from protosocket_rpc.service.rich_status import to_status

__all__ = ["GRPC_DETAILS_METADATA_KEY", "aio", "from_call", "to_status"]

aio: Final = SimpleNamespace(
    GRPC_DETAILS_METADATA_KEY=GRPC_DETAILS_METADATA_KEY, from_call=_from_call, to_status=to_status
)
