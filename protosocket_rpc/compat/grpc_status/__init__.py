"""The names of the package ``grpc_status``, over this package's own.

::

    from protosocket_rpc.compat.grpc_status import rpc_status   # was: from grpc_status import ...
"""

from __future__ import annotations

from protosocket_rpc.compat.grpc_status import rpc_status

__all__ = ["rpc_status"]
