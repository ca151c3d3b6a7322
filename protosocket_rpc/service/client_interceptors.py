"""Interceptors of a channel: ``grpc.aio``'s, and this package's own, in any order.

Those of a method become its stages, once; `service.intercepting` runs them.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NoReturn

from protosocket_rpc.errors import AioRpcError
from protosocket_rpc.metadata import Metadata
from protosocket_rpc.service.call_details import ClientCallDetails
from protosocket_rpc.service.decision import Proceed
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.intercepting import Stage
from protosocket_rpc.service.interceptors import Interceptor, Invocation, chain
from protosocket_rpc.service.sync_handlers import is_async
from protosocket_rpc.status import StatusCode


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
