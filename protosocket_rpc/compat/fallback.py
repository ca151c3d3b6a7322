"""A channel that tries protosocket and falls back to gRPC: for clients that move first.

::

    channel = FallbackChannel("greeter:50052", lambda: grpc.aio.insecure_channel("greeter:50051"))
    stub = GreeterStub(channel)

A call goes over protosocket if a server of it answers, and over gRPC if none does. That is found
out for the first call, and remembered: after a failure, calls go over gRPC at once, and now and
then one of them has protosocket tried again beside it.

Whichever it is, calls, replies and errors are this package's. Needs grpcio: the extra ``grpc``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from protosocket_rpc.compat.grpc_calls import GrpcMethod
from protosocket_rpc.compat.grpcio import check_loop
from protosocket_rpc.errors import AioRpcError
from protosocket_rpc.per_loop import PerLoop
from protosocket_rpc.service.channel import Channel
from protosocket_rpc.service.connectivity import ChannelConnectivity
from protosocket_rpc.service.connector import Connector
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.service.intercepting import InterceptedMethod
from protosocket_rpc.status import StatusCode

_FAILED = (ChannelConnectivity.TRANSIENT_FAILURE, ChannelConnectivity.SHUTDOWN)


class FallbackChannel(Channel):
    """Calls the services of one target over protosocket or, if that does not answer, gRPC.

    `get_state`, `wait_for_state_change` and `channel_ready` speak of protosocket alone.

    With a function that makes the gRPC channels it is used as `Channel` is: made with no event
    loop, and used by several.

    Attributes:
        grpc: the channel that it falls back to, or what makes it.
    """

    def __init__(
        self,
        target: str,
        grpc: Any | Callable[[], Any],
        *,
        connect_timeout: float = 1.0,
        retry_after: float = 60.0,
        **options: Any,
    ) -> None:
        """Neither way is connected until a call needs it.

        Args:
            target: where protosocket is served: ``host:port``, ``unix:path``, ...
            grpc: a function that makes a channel by the real ``grpc.aio.insecure_channel()`` or
                ``secure_channel()``: called once in each event loop that needs one. Or one such
                channel; only the event loop in which it was made can use this one then.
                Closed with this channel.
            connect_timeout: seconds that the first call waits for protosocket to answer.
            retry_after: seconds for which a target that did not answer is left alone.
            **options: of `Channel`: credentials, limits, ...; the interceptors see the calls of
                either way.
        """
        super().__init__(target, **options)
        self.grpc = grpc
        self._grpc_channels = PerLoop("Channel", self._make_grpc)
        self._connect_timeout = connect_timeout
        self._retry_after = retry_after
        # Until when calls wait to see whether it answers; None while none does.
        self._wait_until: float | None = None
        # When it may be tried again; None if it has not failed yet.
        self._retry_at: float | None = None

    def _plain_method(self, descriptor: MethodDescriptor[Any, Any]) -> Any:
        return _FallbackMethod(self, super()._plain_method(descriptor), descriptor)

    def _make_grpc(self, loop: asyncio.AbstractEventLoop) -> _GrpcChannel:
        return _GrpcChannel(loop, self.grpc() if callable(self.grpc) else self.grpc)

    def grpc_channel(self) -> Any:
        """The gRPC channel of the running event loop.

        Raises:
            UsageError: there is one alone, of another event loop; or this channel is closed.
        """
        if not callable(self.grpc):
            check_loop(self.grpc, "give the FallbackChannel a function that makes one")
        return self._grpc_channels.get().channel

    async def answers(self) -> bool:
        """Whether calls that are made now go over protosocket; finds out if that is not known."""
        connector = self.connector()
        now = connector.loop.time()
        if connector.greeted:
            return True
        if self._retry_at is not None:
            if now >= self._retry_at:
                self._retry_at = now + self._retry_after
                connector.connect()
            return False
        if self._wait_until is None:
            self._wait_until = now + self._connect_timeout
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(_greeting(connector), self._wait_until - now)
        self._wait_until = None
        if not connector.greeted:
            self._retry_at = now + self._retry_after
        return connector.greeted

    async def close(self, grace: float | None = None) -> None:
        """Close both. Calls in flight may end for `grace` seconds, then are cancelled."""
        if not callable(self.grpc) and not self._grpc_channels.closed:
            self._grpc_channels.get()  # to be closed, even if it was never used
        await asyncio.gather(super().close(grace), self._grpc_channels.close(grace))


class _GrpcChannel:
    """A ``grpc.aio`` channel, and the event loop that it belongs to."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Any) -> None:
        self.loop = loop
        self.channel = channel
        self._closing: asyncio.Task[None] | None = None

    async def close(self, grace: float | None) -> None:
        await self.channel.close(grace)

    def shut_down(self) -> None:
        self._closing = self.loop.create_task(self.channel.close(None))

    def leave_to_parent(self) -> None:
        """Nothing: gRPC has hooks of its own for forks."""


async def _greeting(connector: Connector) -> None:
    """Wait until a server of protosocket has answered, or there is none."""
    connector.connect()
    while not connector.greeted and connector.state not in _FAILED:
        await connector.wait_for_change(recover=False)


class _FallbackMethod:
    """Calls a method over what answers."""

    def __init__(
        self, channel: FallbackChannel, own: Any, descriptor: MethodDescriptor[Any, Any]
    ) -> None:
        self._channel = channel
        self._own = own
        self._descriptor = descriptor
        # What holds the caller's place until it is known.
        self._undecided = InterceptedMethod(descriptor, channel.connector, self._decide)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Start a call, with the arguments of the method's kind."""
        if self._channel.connector().greeted:
            return self._own(*args, **kwargs)
        return self._undecided(*args, **kwargs)

    async def _decide(self, details: Any, request: Any) -> Any:
        loop = asyncio.get_running_loop()
        started = loop.time()
        timeout = details.timeout
        try:
            answers = await asyncio.wait_for(self._channel.answers(), timeout)
        except asyncio.TimeoutError:
            raise AioRpcError(StatusCode.DEADLINE_EXCEEDED, details="Deadline Exceeded") from None
        if timeout is not None:
            timeout -= loop.time() - started
        method = self._own
        if not answers:
            method = GrpcMethod(self._channel.grpc_channel(), self._descriptor)
        return method(
            request,
            timeout=timeout,
            metadata=details.metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )
