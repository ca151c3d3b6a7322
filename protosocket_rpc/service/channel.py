"""Channel: where stubs get their methods from, and calls their connection. ``grpc.aio.Channel``."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from protosocket_rpc.errors import UsageError
from protosocket_rpc.raw import parse_addresses
from protosocket_rpc.service.connectivity import ChannelConnectivity, ClientConnectivity
from protosocket_rpc.service.connector import Connector
from protosocket_rpc.service.deadlines import Deadlines
from protosocket_rpc.service.descriptor import (
    BYTES,
    Marshaller,
    MethodDescriptor,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.method import (
    Method,
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from protosocket_rpc.service.options import connectivity_of, limits_of

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Channel:
    """Calls the services of one target. Made by `insecure_channel()` and `secure_channel()`.

    Needs no event loop to be made: it connects when the first call is.
    """

    def __init__(
        self,
        target: str,
        *,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
        limits: RpcLimits | None = None,
        connections: int = 1,
        connectivity: ClientConnectivity | None = None,
    ) -> None:
        """Use `insecure_channel()` or `secure_channel()`.

        Args:
            target: ``host:port``, ``unix:path``, ... (`raw.parse_addresses` lists the forms).
            ssl: the context to speak TLS with; None for none.
            server_hostname: the name to expect in the server's certificate, if not the target's.
            limits: sizes; see `RpcLimits`.
            connections: how many to have to each address.
            connectivity: how they are found, made and kept; see `ClientConnectivity`.

        Raises:
            ValueError: the target has no known form, or `connections` is below 1.
        """
        parse_addresses(target)
        if connections < 1:
            raise ValueError(f"a channel has at least 1 connection, not {connections}")
        self.target = target
        self.limits = limits or RpcLimits()
        self._ssl = ssl
        self._server_hostname = server_hostname
        self._connector: Connector | None = None
        self._connections = connections
        self._connectivity = connectivity or ClientConnectivity()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Channel to {self.target} {self.get_state().name}>"

    def connector(self) -> Connector:
        """Where calls get their connection from, on the running loop.

        Raises:
            UsageError: the channel is closed.
            RuntimeError: no event loop is running.
        """
        connector = self._connector
        if connector is None or connector.loop is not asyncio.get_running_loop():
            connector = self._bind()
        return connector

    def _bind(self) -> Connector:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise UsageError("Channel is closed.")
        connector = self._connector = Connector(
            loop,
            Deadlines(loop),
            self.target,
            self._ssl,
            self._server_hostname,
            self.limits,
            self._connectivity,
            self._connections,
        )
        return connector

    # -- methods ---------------------------------------------------------------------------

    @overload
    def method(
        self, descriptor: UnaryUnaryMethod[Request, Reply]
    ) -> UnaryUnaryMultiCallable[Request, Reply]: ...

    @overload
    def method(
        self, descriptor: UnaryStreamMethod[Request, Reply]
    ) -> UnaryStreamMultiCallable[Request, Reply]: ...

    @overload
    def method(
        self, descriptor: StreamUnaryMethod[Request, Reply]
    ) -> StreamUnaryMultiCallable[Request, Reply]: ...

    @overload
    def method(
        self, descriptor: StreamStreamMethod[Request, Reply]
    ) -> StreamStreamMultiCallable[Request, Reply]: ...

    def method(self, descriptor: MethodDescriptor[Any, Any]) -> Any:
        """The callable of a method: what generated stubs are made of."""
        for kind, make in _MULTI_CALLABLES:
            if isinstance(descriptor, kind):
                return make(Method(self, descriptor))
        raise TypeError(f"{descriptor!r} is none of the four kinds of method")

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = None,
    ) -> UnaryUnaryMultiCallable[Any, Any]:
        """A callable for a method with one request and one reply."""
        return self.method(
            UnaryUnaryMethod(method, *_marshallers(request_serializer, response_deserializer))
        )

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = None,
    ) -> UnaryStreamMultiCallable[Any, Any]:
        """A callable for a method with one request and a stream of replies."""
        return self.method(
            UnaryStreamMethod(method, *_marshallers(request_serializer, response_deserializer))
        )

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = None,
    ) -> StreamUnaryMultiCallable[Any, Any]:
        """A callable for a method with a stream of requests and one reply."""
        return self.method(
            StreamUnaryMethod(method, *_marshallers(request_serializer, response_deserializer))
        )

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = None,
    ) -> StreamStreamMultiCallable[Any, Any]:
        """A callable for a method with a stream of requests and a stream of replies."""
        return self.method(
            StreamStreamMethod(method, *_marshallers(request_serializer, response_deserializer))
        )

    # -- connectivity ----------------------------------------------------------------------

    def get_state(self, try_to_connect: bool = False) -> ChannelConnectivity:
        """The channel's state; connects if it is idle and that is asked for."""
        if self._closed:
            return ChannelConnectivity.SHUTDOWN
        if try_to_connect:
            connector = self.connector()
            connector.connect()
            return connector.state
        return ChannelConnectivity.IDLE if self._connector is None else self._connector.state

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        """Wait until the state is another than the one last seen."""
        if self._closed:
            raise UsageError("Channel is closed.")
        await self.connector().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Connect, and wait until that has succeeded; tries for ever."""
        state = self.get_state(try_to_connect=True)
        while state is not ChannelConnectivity.READY:
            await self.wait_for_state_change(state)
            state = self.get_state(try_to_connect=True)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel. Calls in flight may end for `grace` seconds, then are cancelled."""
        self._closed = True
        if self._connector is not None:
            await self._connector.close(grace)
            self._connector.deadlines.close()

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close(None)


_MULTI_CALLABLES: tuple[tuple[type[Any], type[Any]], ...] = (
    (UnaryUnaryMethod, UnaryUnaryMultiCallable),
    (UnaryStreamMethod, UnaryStreamMultiCallable),
    (StreamUnaryMethod, StreamUnaryMultiCallable),
    (StreamStreamMethod, StreamStreamMultiCallable),
)


def _marshallers(
    serialize: Callable[[Any], bytes] | None, parse: Callable[[bytes], Any] | None
) -> tuple[Marshaller[Any], Marshaller[Any]]:
    request = BYTES if serialize is None else Marshaller(serialize, bytes, "request")
    reply = BYTES if parse is None else Marshaller(bytes, parse, "response")
    return request, reply


def insecure_channel(
    target: str,
    options: Iterable[tuple[str, Any]] | None = None,
    *,
    limits: RpcLimits | None = None,
    connections: int = 1,
    connectivity: ClientConnectivity | None = None,
) -> Channel:
    """A channel without TLS.

    Args:
        target: ``host:port``, ``unix:path``, ... (`raw.parse_addresses` lists the forms).
        options: gRPC's ``(name, value)`` pairs: ``grpc.max_receive_message_length`` and
            ``grpc.max_send_message_length`` are honoured, others accepted.
        limits: sizes; see `RpcLimits`.
        connections: how many to have to each address.
        connectivity: how they are found, made and kept; see `ClientConnectivity`.
    """
    return Channel(
        target,
        limits=limits_of(options, limits),
        connections=connections,
        connectivity=connectivity_of(options, connectivity),
    )


def secure_channel(
    target: str,
    credentials: ssl_module.SSLContext,
    options: Iterable[tuple[str, Any]] | None = None,
    *,
    server_hostname: str | None = None,
    limits: RpcLimits | None = None,
    connections: int = 1,
    connectivity: ClientConnectivity | None = None,
) -> Channel:
    """A channel with TLS.

    Args:
        credentials: the context to speak TLS with.
        server_hostname: the name to expect in the server's certificate, if not the target's.

    The other arguments are those of `insecure_channel`.
    """
    return Channel(
        target,
        ssl=credentials,
        server_hostname=server_hostname,
        limits=limits_of(options, limits),
        connections=connections,
        connectivity=connectivity_of(options, connectivity),
    )
