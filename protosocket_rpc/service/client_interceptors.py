"""Interceptors of a channel: ``grpc.aio``'s, and this package's own, in any order.

They are folded once for each method. What they run in is a task per call, and what the caller
holds is an `InterceptedCall`, which does as the call that comes out of them does::

    caller ── InterceptedCall ── task: stage ──> stage ──> ... ──> the call itself
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from protosocket_rpc.errors import AioRpcError
from protosocket_rpc.metadata import (
    Metadata,
    MetadataLike,
    given_metadata,
    unseen_metadata,
)
from protosocket_rpc.service.call import Call, StreamUnaryCall, UnaryUnaryCall
from protosocket_rpc.service.call_credentials import CallCredentials
from protosocket_rpc.service.compression import Compression
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.intercepted import (
    Decision,
    InterceptedCall,
    InterceptedStreamStreamCall,
    InterceptedStreamUnaryCall,
    InterceptedUnaryStreamCall,
    InterceptedUnaryUnaryCall,
    Made,
    SubstituteReplies,
    SubstituteReply,
    written_requests,
)
from protosocket_rpc.service.interceptors import Interceptor, Invocation, chain
from protosocket_rpc.service.stream_call import StreamCall, StreamStreamCall, UnaryStreamCall
from protosocket_rpc.service.sync_handlers import is_async
from protosocket_rpc.status import StatusCode

if TYPE_CHECKING:
    from protosocket_rpc.service.connector import Connector


class ClientCallDetails(NamedTuple):
    """A call that is about to be made: ``grpc.aio.ClientCallDetails``.

    Attributes:
        method: its path, as bytes.
        timeout: seconds; None for none.
        metadata: to go with the request.
        credentials, wait_for_ready, compression: as for the call.
    """

    method: bytes
    timeout: float | None
    metadata: Metadata | None
    credentials: CallCredentials | None
    wait_for_ready: bool | None
    compression: Compression | None = None


Proceed = Callable[[Any, Any], Awaitable[Any]]
"""Goes on with a call: takes its details and its request, or iterator of requests."""

Start = Callable[[ClientCallDetails, Any], Any]
"""Starts a call, of its details and its request."""

Stage = Callable[[Proceed, ClientCallDetails, Any], Awaitable[Any]]
"""An interceptor as it is run: takes what comes next, the details, and the request."""


class ClientInterceptor(ABC):  # noqa: B024  # as in grpc.aio: the base of the four below
    """Base of ``grpc.aio``'s interceptor classes. One class may derive from several of them."""


class UnaryUnaryClientInterceptor(ClientInterceptor):
    """Intercepts calls with one request and one reply."""

    @abstractmethod
    async def intercept_unary_unary(
        self, continuation: Proceed, client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        """Make the call, or answer it.

        Args:
            continuation: ``await continuation(client_call_details, request)`` makes the call.

        Returns:
            The call that `continuation` gave, or a reply.
        """


class UnaryStreamClientInterceptor(ClientInterceptor):
    """Intercepts calls with one request and a stream of replies."""

    @abstractmethod
    async def intercept_unary_stream(
        self, continuation: Proceed, client_call_details: ClientCallDetails, request: Any
    ) -> Any:
        """Make the call, or answer it.

        Returns:
            The call that `continuation` gave, or an async iterator of replies.
        """


class StreamUnaryClientInterceptor(ClientInterceptor):
    """Intercepts calls with a stream of requests and one reply."""

    @abstractmethod
    async def intercept_stream_unary(
        self, continuation: Proceed, client_call_details: ClientCallDetails, request_iterator: Any
    ) -> Any:
        """Make the call, or answer it.

        Returns:
            The call that `continuation` gave, or a reply.
        """


class StreamStreamClientInterceptor(ClientInterceptor):
    """Intercepts calls with a stream of requests and a stream of replies."""

    @abstractmethod
    async def intercept_stream_stream(
        self, continuation: Proceed, client_call_details: ClientCallDetails, request_iterator: Any
    ) -> Any:
        """Make the call, or answer it.

        Returns:
            The call that `continuation` gave, or an async iterator of replies.
        """


class ClientInvocation(Invocation):
    """A call as the interceptors of its channel see it.

    Attributes:
        timeout, credentials, wait_for_ready, compression: as for the call; may be changed before
            ``next`` is called.
    """

    def __init__(
        self,
        descriptor: MethodDescriptor[Any, Any],
        proceed: Proceed,
        details: ClientCallDetails,
        request: Any,
    ) -> None:
        super().__init__()
        self.method = details.method.decode()
        self.streams_requests = descriptor.streams_requests
        self.streams_replies = descriptor.streams_replies
        self.metadata = Metadata.from_tuple(details.metadata)
        self.timeout = details.timeout
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression
        self.request = _async_iterator(request) if descriptor.streams_requests else request
        self.code = None
        self.details = ""
        self.initial_metadata = Metadata()
        self.trailing_metadata = Metadata()
        self._proceed = proceed

    async def abort(self, code: StatusCode, details: str = "") -> NoReturn:
        """Have the call fail with a status, and leave the interceptor by an exception."""
        self.code = code
        self.details = details
        raise AioRpcError(code, details=details)

    async def perform(self) -> AsyncGenerator[Any, None]:
        """Make the call: what comes after the last interceptor of this shape."""
        details = ClientCallDetails(
            self.method.encode(),
            self.timeout,
            self.metadata,
            self.credentials,
            self.wait_for_ready,
            self.compression,
        )
        call = await self._proceed(details, self.request)
        try:
            if self.streams_replies:
                first = True
                async for reply in call:
                    if first:
                        first = False
                        self.initial_metadata = await call.initial_metadata()
                    yield reply
                await self._ended(call)
            else:
                reply = await call
                await self._ended(call)
                yield reply
        except AioRpcError as error:
            self.code = error.code()
            self.details = error.details() or ""
            self.initial_metadata = error.initial_metadata()
            self.trailing_metadata = error.trailing_metadata()
            raise
        except asyncio.CancelledError:
            self.code = StatusCode.CANCELLED
            raise
        finally:
            call.cancel()  # without effect if it has ended

    async def _ended(self, call: Any) -> None:
        self.code = await call.code()
        self.details = await call.details() or ""
        self.initial_metadata = await call.initial_metadata() or Metadata()
        self.trailing_metadata = await call.trailing_metadata() or Metadata()


async def _async_iterator(requests: Any) -> AsyncGenerator[Any, None]:
    if hasattr(requests, "__aiter__"):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


# -- folding -------------------------------------------------------------------------------


def check(interceptor: object) -> None:
    """Refuse what is no client interceptor.

    Raises:
        ValueError: it is neither of one of the four classes, nor a function of the own shape.
    """
    if not _is_grpc_aio(interceptor) and not callable(interceptor):
        raise ValueError(
            f"{interceptor!r} is no client interceptor: it has to be derived from "
            "UnaryUnaryClientInterceptor or its like, or be an async generator function that "
            "takes the call and what comes next"
        )


def stages_for(
    interceptors: Sequence[ClientInterceptor | Interceptor], descriptor: MethodDescriptor[Any, Any]
) -> list[Stage]:
    """What of these interceptors has to do with calls of a method."""
    requests = "stream" if descriptor.streams_requests else "unary"
    replies = "stream" if descriptor.streams_replies else "unary"
    method = f"intercept_{requests}_{replies}"
    stages: list[Stage] = []
    own: list[Interceptor] = []
    for interceptor in interceptors:
        if not _is_grpc_aio(interceptor):
            own.append(interceptor)  # type: ignore[arg-type]  # the only other shape
        elif hasattr(interceptor, method):
            if own:
                stages.append(_own_stage(own, descriptor))
                own = []
            stages.append(getattr(interceptor, method))
    if own:
        stages.append(_own_stage(own, descriptor))
    return stages


_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def _is_grpc_aio(interceptor: object) -> bool:
    """True for an interceptor of ``grpc.aio``'s shape, also one written for grpcio itself."""
    if isinstance(interceptor, ClientInterceptor):
        return True
    methods = [getattr(interceptor, f"intercept_{kind}", None) for kind in _KINDS]
    # Those of the blocking API have the same names.
    return any(method is not None and is_async(method) for method in methods)


def _own_stage(
    interceptors: Sequence[Interceptor], descriptor: MethodDescriptor[Any, Any]
) -> Stage:
    first = chain(interceptors, ClientInvocation.perform)

    async def stage(proceed: Proceed, details: ClientCallDetails, request: Any) -> Any:
        call = ClientInvocation(descriptor, proceed, details, request)
        if descriptor.streams_replies:
            return call.all_replies(first(call))
        return await call.only_reply(first(call))

    return stage


class _Link:
    """A stage, and what comes after it: another stage, or the call itself.

    Args:
        next: the stage after this one; None if this is the last.
        start: makes the call.
    """

    __slots__ = ("_next", "_stage", "_start", "_streams_replies")

    def __init__(
        self, stage: Stage, next: _Link | None, start: Start, streams_replies: bool
    ) -> None:
        self._stage = stage
        self._next = next
        self._start = start
        self._streams_replies = streams_replies

    async def run(self, details: ClientCallDetails, request: Any) -> Any:
        """Run the stage: the call that it gives."""
        going_on = _GoingOn(self, details)
        result = await self._stage(going_on.go_on, details, request)
        if isinstance(result, _CALLS):
            return result
        if self._streams_replies:
            return SubstituteReplies(result, going_on)
        return SubstituteReply(result, going_on)

    async def go_on(self, details: ClientCallDetails, request: Any) -> Any:
        """What comes after the stage."""
        if self._next is None:
            return self._start(details, request)
        return await self._next.run(details, request)


class _GoingOn(Made):
    """How an interceptor goes on with a call that has these details."""

    __slots__ = ("_details", "_link")

    def __init__(self, link: _Link, details: ClientCallDetails) -> None:
        super().__init__()
        self._link = link
        self._details = details

    async def go_on(self, details: Any, request: Any) -> Any:
        """The continuation: what the interceptor is given."""
        if details is not self._details:
            details = _completed(details, self._details.compression)
        link = self._link
        call = await link.go_on(details, request)
        self.set(call)
        return call


# What interceptors return if it is not a reply.
_CALLS = (Call, StreamCall, InterceptedCall, SubstituteReply, SubstituteReplies)


def _completed(details: Any, compression: Compression | None) -> ClientCallDetails:
    """Details as an interceptor made them, perhaps of a class of its own."""
    method = details.method
    return ClientCallDetails(
        method.encode() if isinstance(method, str) else method,
        details.timeout,
        details.metadata,
        details.credentials,
        _optional(details, "wait_for_ready"),
        _optional(details, "compression") or compression,
    )


def _optional(details: Any, field: str) -> Any:
    try:
        return getattr(details, field, None)
    except IndexError:  # a shorter tuple, of a class that is derived from ours as well
        return None


# -- calling -------------------------------------------------------------------------------

_INTERCEPTED: dict[tuple[bool, bool], type[InterceptedCall]] = {
    (False, False): InterceptedUnaryUnaryCall,
    (False, True): InterceptedUnaryStreamCall,
    (True, False): InterceptedStreamUnaryCall,
    (True, True): InterceptedStreamStreamCall,
}
_PLAIN: dict[tuple[bool, bool], type[Any]] = {
    (False, False): UnaryUnaryCall,
    (False, True): UnaryStreamCall,
    (True, False): StreamUnaryCall,
    (True, True): StreamStreamCall,
}


class InterceptedMethod:
    """Calls a method by way of interceptors: the multi-callables of a channel that has some."""

    def __init__(
        self,
        descriptor: MethodDescriptor[Any, Any],
        connector: Callable[[], Connector],
        run: Proceed,
    ) -> None:
        """Use `intercept`.

        Args:
            connector: gives the connector of the running loop.
            run: makes a call of its details and its request.
        """
        self._method = descriptor.path.encode()
        self._connector = connector
        self._run = run
        self._streams_requests = descriptor.streams_requests
        kind = descriptor.streams_requests, descriptor.streams_replies
        self._plain = _PLAIN[kind]
        self._make: Any = _INTERCEPTED[kind]

    def __call__(
        self,
        request: Any = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
        *,
        request_iterator: Any = None,
    ) -> Any:
        """Start a call, with the arguments of the method's kind."""
        runner = self._connector().runner
        written: asyncio.Queue[Any] | None = None
        if request is None:
            request = request_iterator
            if request is None and self._streams_requests:
                written = asyncio.Queue()
                request = written_requests(written)
        details = ClientCallDetails(
            self._method,
            timeout,
            given_metadata(metadata),
            credentials,
            wait_for_ready,
            compression,
        )
        decision = Decision()
        task = runner.start_within(decision.reach(self._run, details, request))
        if type(decision.call) is self._plain and written is None:
            return decision.call  # it is what interceptors that never wait come to
        return self._make(decision, task, timeout, written)


def intercept(
    stages: Sequence[Stage],
    descriptor: MethodDescriptor[Any, Any],
    connector: Callable[[], Connector],
    method: Callable[[MethodDescriptor[Any, Any]], Any],
) -> InterceptedMethod:
    """A method with stages before it.

    Args:
        connector: gives the connector of the running loop.
        method: makes the callable of a method without interceptors.
    """
    others: dict[bytes, Any] = {}  # interceptors may call another method instead
    plain = method(descriptor)
    path = descriptor.path.encode()

    def start(details: ClientCallDetails, request: Any) -> Any:
        target = plain
        if details.method != path:
            target = others.get(details.method)
            if target is None:
                other = type(descriptor)(
                    details.method.decode(), descriptor.request, descriptor.reply
                )
                target = others[details.method] = method(other)
        return target(
            request,
            timeout=details.timeout,
            metadata=unseen_metadata(details.metadata),
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )

    link: _Link | None = None
    for stage in reversed(stages):
        link = _Link(stage, link, start, descriptor.streams_replies)
    assert link is not None
    return InterceptedMethod(descriptor, connector, link.run)
