"""Calls that pass through interceptors: what runs for each of them.

What a method's interceptors are is known beforehand. They begin when the call is made, in a task
of their own; if that never waits, the caller holds the call itself, as if there were none::

    caller ── task: stage ──> stage ──> ... ──> the call itself
       └── InterceptedCall, which does as that call does, where the task has to wait
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from protosocket_rpc.metadata import MetadataLike, given_metadata, unseen_metadata
from protosocket_rpc.service.call import Call, StreamUnaryCall, UnaryUnaryCall
from protosocket_rpc.service.call_credentials import CallCredentials
from protosocket_rpc.service.call_details import ClientCallDetails, call_details, completed
from protosocket_rpc.service.compression import Compression
from protosocket_rpc.service.decision import Decision, Made, Proceed
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.intercepted import (
    InterceptedCall,
    InterceptedStreamStreamCall,
    InterceptedStreamUnaryCall,
    InterceptedUnaryStreamCall,
    InterceptedUnaryUnaryCall,
    SubstituteReplies,
    SubstituteReply,
    written_requests,
)
from protosocket_rpc.service.stream_call import StreamCall, StreamStreamCall, UnaryStreamCall

if TYPE_CHECKING:
    from protosocket_rpc.service.connector import Connector

Stage = Callable[[Proceed, ClientCallDetails, Any], Awaitable[Any]]
"""An interceptor as it is run: takes what comes next, the details, and the request."""


class _Link:
    """A stage, and what comes after it: another stage, or the call itself.

    Args:
        next: the stage after this one; None if this is the last.
        calls: makes the call.
    """

    def __init__(
        self, stage: Stage, next: _Link | None, calls: _Calls, streams_replies: bool
    ) -> None:
        self._stage = stage
        self.next = next
        self.calls = calls
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


class _GoingOn(Made):
    """How an interceptor goes on with a call that has these details."""

    def __init__(self, link: _Link, details: ClientCallDetails) -> None:
        self._link = link
        self._details = details

    async def go_on(self, details: Any, request: Any) -> Any:
        """The continuation: what the interceptor is given."""
        if details is not self._details:
            details = completed(details, self._details.compression)
        link = self._link
        if link.next is None:
            call = link.calls.start(details, request)
        else:
            call = await link.next.run(details, request)
        self.set(call)
        return call


# What interceptors return if it is not a reply.
_CALLS: Final[tuple[type[Any], ...]] = (
    Call,
    StreamCall,
    InterceptedCall,
    SubstituteReply,
    SubstituteReplies,
)


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
        given = given_metadata(metadata)
        details = call_details(
            (self._method, timeout, given, credentials, wait_for_ready, compression)
        )
        decision = Decision()
        task = runner.start_within(decision.reach(self._run, details, request))
        if type(decision.call) is self._plain and written is None:
            return decision.call  # it is what interceptors that never wait come to
        return self._make(decision, task, timeout, written)


class _Calls:
    """What comes after the last stage.

    Args:
        method: makes the callable of a method without interceptors.
    """

    def __init__(
        self,
        descriptor: MethodDescriptor[Any, Any],
        method: Callable[[MethodDescriptor[Any, Any]], Any],
    ) -> None:
        self._descriptor = descriptor
        self._callable = method
        self._path = descriptor.path.encode()
        self._method = method(descriptor)
        self._others: dict[bytes, Any] = {}

    def start(self, details: ClientCallDetails, request: Any) -> Any:
        """Start a call."""
        path, timeout, metadata, credentials, wait_for_ready, compression = details
        method = self._method if path == self._path else self._other(path)
        return method(
            request,
            timeout=timeout,
            metadata=unseen_metadata(metadata),
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )

    def _other(self, path: bytes) -> Any:
        """Interceptors may call another method instead."""
        method = self._others.get(path)
        if method is None:
            ours = self._descriptor
            other = type(ours)(path.decode(), ours.request, ours.reply)
            method = self._others[path] = self._callable(other)
        return method


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
    calls = _Calls(descriptor, method)
    link: _Link | None = None
    for stage in reversed(stages):
        link = _Link(stage, link, calls, descriptor.streams_replies)
    assert link is not None
    return InterceptedMethod(descriptor, connector, link.run)
