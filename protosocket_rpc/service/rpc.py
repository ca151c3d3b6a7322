"""What every service-call RPC is, on either side: in a table, sending, and with a deadline."""

from __future__ import annotations

from typing import Any

from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.rpc.session import Rpc
from protosocket_rpc.wire.frame import Frame


@mypyc_attr(allow_interpreted_subclasses=True)
class ServiceRpc(Rpc[Frame]):
    """An RPC of frames. Its halves tell it when it may send, its deadline when it is over."""

    # Kept by Deadlines: the bucket that this RPC expires with.
    bucket: dict[Any, float] | None = None

    def on_sendable(self) -> None:
        """Another message may be sent, or the RPC has ended."""

    def on_deadline(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError
