"""Every exception of this package.

::

    ProtosocketError
    ├── ConnectionClosed (ConnectionError)   the connection is gone, or was closed here
    ├── ProtocolError (ValueError)           the peer broke the protocol; its connection ends
    │   ├── DecodeError                      bytes that can never become a message
    │   └── FrameTooLarge                    a message above the receiver's limit
    ├── PeerRefused (ConnectionError)        the peer is not who, or what, it has to be
    ├── OutputQueueFull                      the peer does not read and the caller went on sending
    ├── RemoteCancelled                      the peer cancelled or rejected the RPC
    ├── RpcFinished                          the peer ended the RPC without the reply it owes
    ├── RpcError                             (as in grpc) an RPC ended with a status
    │   └── AioRpcError                      what a call raises: code, details, metadata
    ├── UsageError (BaseError)               the API was used in a way that cannot work
    └── InternalError (BaseError)            a defect of this package
    BaseError                                (as in grpc.aio)
    └── AbortError                           raised inside a handler by context.abort()
"""

from __future__ import annotations

import pickle
from typing import Any

from protosocket_rpc.metadata import Metadata
from protosocket_rpc.status import StatusCode


class ProtosocketError(Exception):
    """Base of the errors that are this package's own. Picklable, along with what caused them."""

    def __reduce__(self) -> tuple[Any, ...]:
        reduced = super().__reduce__()
        assert isinstance(reduced, tuple)
        kind, args, *state = reduced
        return self._with_cause(kind, args, state[0] if state else {})

    def _with_cause(self, kind: Any, args: Any, state: dict[str, Any]) -> tuple[Any, ...]:
        """What `__reduce__` returns: pickling by itself leaves ``__cause__`` behind."""
        cause = self.__cause__
        if cause is not None:
            try:
                pickle.loads(pickle.dumps(cause))
            except Exception:  # whatever it is: its text has to do
                cause = ProtosocketError(f"{type(cause).__name__}: {cause}")
            state = {**state, "__cause__": cause}
        return (kind, args, state) if state else (kind, args)


class ConnectionClosed(ProtosocketError, ConnectionError):
    """The connection is gone: closed by either side, or lost. ``__cause__`` says why, if known."""


class ProtocolError(ProtosocketError, ValueError):
    """The peer did something that the protocol does not allow. The peer's fault."""


class DecodeError(ProtocolError):
    """Bytes that can never become a message, however many more arrive. The peer's fault."""


class FrameTooLarge(ProtocolError):
    """The peer announced a message larger than this side accepts. Nothing of it was buffered."""


class PeerRefused(ProtosocketError, ConnectionError):
    """The connection was made, but its peer is not who, or what, it has to be."""


class OutputQueueFull(ProtosocketError):
    """More output is queued than ``max_queued_output`` allows: the peer is not reading.

    The message that raised it was not queued. Await ``drain()`` before sending more.
    """


class RemoteCancelled(ProtosocketError):
    """The peer cancelled the RPC, or refused to take it."""


class RpcFinished(ProtosocketError):
    """The peer ended the RPC in good order, but without the reply that a unary RPC needs."""


class BaseError(Exception):
    """What ``grpc.aio`` calls the base of the errors that are not about one RPC's status."""


class UsageError(BaseError, ProtosocketError):
    """The API was used in a way that cannot work. The caller's fault."""


class InternalError(BaseError, ProtosocketError):
    """A defect of this package: please report it."""


class RpcError(ProtosocketError):
    """An RPC ended with a status other than OK. The name that gRPC's users catch."""


class AbortError(BaseError):
    """What `ServicerContext.abort` raises, to leave the handler. Not to be caught."""


class AioRpcError(RpcError):
    """What a call raises when its RPC has ended with a status other than OK.

    A snapshot: its methods are no coroutines. Picklable.
    """

    def __init__(
        self,
        code: StatusCode,
        initial_metadata: Metadata | None = None,
        trailing_metadata: Metadata | None = None,
        details: str | None = None,
        debug_error_string: str | None = None,
        status_details: tuple[bytes, ...] = (),
    ) -> None:
        super().__init__(code, details)
        self._code = code
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata
        self._details = details
        self._debug_error_string = debug_error_string
        self._status_details = status_details

    def code(self) -> StatusCode:
        """How the RPC ended."""
        return self._code

    def details(self) -> str | None:
        """The text that came with the code."""
        return self._details

    def initial_metadata(self) -> Metadata:
        """What the server sent before its first message; empty if nothing arrived."""
        return self._initial_metadata or Metadata()

    def trailing_metadata(self) -> Metadata:
        """What the server sent with the end; empty if nothing arrived."""
        return self._trailing_metadata or Metadata()

    def status_details(self) -> tuple[bytes, ...]:
        """The rich details: serialized ``google.protobuf.Any`` messages."""
        return self._status_details

    def debug_error_string(self) -> str:
        """Where and how it happened, for people: target, peer, method, attempts, elapsed time."""
        return self._debug_error_string or ""

    def __str__(self) -> str:
        text = f"{self._code.name}: {self._details}"
        return f"{text} ({self._debug_error_string})" if self._debug_error_string else text

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of RPC that terminated with:\n"
            f"\tstatus = {self._code}\n"
            f'\tdetails = "{self._details}"\n'
            f'\tdebug_error_string = "{self.debug_error_string()}"\n>'
        )

    def __reduce__(self) -> tuple[Any, ...]:
        args = (
            self._code,
            self._initial_metadata,
            self._trailing_metadata,
            self._details,
            self._debug_error_string,
            self._status_details,
        )
        return self._with_cause(type(self), args, {})
