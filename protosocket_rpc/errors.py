"""Every exception of this package.

::

    ProtosocketError
    ├── ConnectionClosed (ConnectionError)   the connection is gone, or was closed here
    ├── ProtocolError (ValueError)           the peer broke the protocol; its connection ends
    │   ├── DecodeError                      bytes that can never become a message
    │   └── FrameTooLarge                    a message above the receiver's limit
    ├── OutputQueueFull                      the peer does not read and the caller went on sending
    ├── RemoteCancelled                      the peer cancelled or rejected the RPC
    ├── RpcFinished                          the peer ended the RPC without the reply it owes
    └── UsageError                           the API was used in a way that cannot work
        RpcError                             (as in grpc) an RPC ended with a status
        └── AioRpcError                      what a call raises: code, details, metadata
    AbortError                               raised inside a handler by context.abort()
    InternalError                            a defect of this package
"""

from __future__ import annotations


class ProtosocketError(Exception):
    """Base of the errors that are this package's own."""


class ConnectionClosed(ProtosocketError, ConnectionError):
    """The connection is gone: closed by either side, or lost. ``__cause__`` says why, if known."""


class ProtocolError(ProtosocketError, ValueError):
    """The peer did something that the protocol does not allow. The peer's fault."""


class DecodeError(ProtocolError):
    """Bytes that can never become a message, however many more arrive. The peer's fault."""


class FrameTooLarge(ProtocolError):
    """The peer announced a message larger than this side accepts. Nothing of it was buffered."""


class OutputQueueFull(ProtosocketError):
    """More output is queued than ``Limits.max_queued_output``: the peer is not reading.

    The message that raised it was not queued. Await ``drain()`` before sending more.
    """


class RemoteCancelled(ProtosocketError):
    """The peer cancelled the RPC, or refused to take it."""


class RpcFinished(ProtosocketError):
    """The peer ended the RPC in good order, but without the reply that a unary RPC needs."""


class UsageError(ProtosocketError):
    """The API was used in a way that cannot work. The caller's fault."""


class InternalError(ProtosocketError):
    """A defect of this package: please report it."""
