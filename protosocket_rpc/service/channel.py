"""Channel: where stubs get their methods from, and calls their connection. ``grpc.aio.Channel``."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar, overload

from protosocket_rpc.per_loop import PerLoop
from protosocket_rpc.raw import parse_addresses
from protosocket_rpc.service.client_interceptors import (
    ClientInterceptor,
    check,
    stages_for,
)
from protosocket_rpc.service.compression import Compression, wire_compression
from protosocket_rpc.service.connectivity import ChannelConnectivity, ClientConnectivity
from protosocket_rpc.service.connector import Connector
from protosocket_rpc.service.credentials import ChannelCredentials, to_channel_credentials
from protosocket_rpc.service.deprecated import Deprecated
from protosocket_rpc.service.descriptor import (
    BYTES,
    Marshaller,
    MethodDescriptor,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
)
from protosocket_rpc.service.intercepting import intercept
from protosocket_rpc.service.interceptors import Interceptor
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.method import (
    Method,
    StreamStreamMultiCallable,
    StreamUnaryMultiCallable,
    UnaryStreamMultiCallable,
    UnaryUnaryMultiCallable,
)
from protosocket_rpc.service.options import connectivity_of, limits_of, target_name_of

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Channel:
    """Calls the services of one target. Made by `insecure_channel()` and `secure_channel()`.

    Needs no event loop to be made: it connects when the first call is. May be used by several
    event loops, on several threads, and in the children of a process that forks: each loop has
    connections of its own, which end with it.

    Attributes:
        connectors: where calls get their connections from, by event loop.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: ChannelCredentials | None = None,
        server_hostname: str | None = None,
        limits: RpcLimits | None = None,
        connections: int = 1,
        connectivity: ClientConnectivity | None = None,
        compression: Compression | None = None,
        interceptors: Sequence[ClientInterceptor | Interceptor] = (),
        allow_insecure_call_credentials: bool = False,
    ) -> None:
        """Use `insecure_channel()` or `secure_channel()`.

        Args:
            target: ``host:port``, ``unix:path``, ... (`raw.parse_addresses` lists the forms).
            credentials: of its connections and of its calls; None for none.

        The other arguments are those of these functions.
        """
        addresses = parse_addresses(target)
        if connections < 1:
            raise ValueError(f"a channel has at least 1 connection, not {connections}")
        self.target = target
        name = server_hostname or ",".join([str(address) for address in addresses])
        # As gRPC has it, whose plugins look it up: without a scheme, and the port of https.
        self.audience = name.removesuffix(":443")
        self.limits = limits or RpcLimits()
        self.credentials = credentials or ChannelCredentials()
        self.compression = wire_compression(compression)
        self.allow_insecure_call_credentials = allow_insecure_call_credentials
        for interceptor in interceptors:
            check(interceptor)
        self._interceptors = list(interceptors)
        self.connectors = PerLoop(
            "Channel",
            partial(
                Connector,
                target=target,
                credentials=self.credentials,
                server_hostname=server_hostname,
                limits=self.limits,
                connectivity=connectivity or ClientConnectivity(),
                connections=connections,
            ),
        )

    def __repr__(self) -> str:
        return f"<Channel to {self.target} {self.get_state().name}>"

    def connector(self) -> Connector:
        """Where calls get their connection from, on the running loop.

        Raises:
            UsageError: the channel is closed.
            RuntimeError: no event loop is running.
        """
        return self.connectors.get()

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
        stages = stages_for(self._interceptors, descriptor) if self._interceptors else []
        if stages:
            connector = Method(self, descriptor).connector  # as quick as a plain call's
            return intercept(stages, descriptor, connector, self._plain_method)
        return self._plain_method(descriptor)

    def _plain_method(self, descriptor: MethodDescriptor[Any, Any]) -> Any:
        for kind, make in _MULTI_CALLABLES:
            if isinstance(descriptor, kind):
                call = make(Method(self, descriptor))
                return Deprecated(call, descriptor.path) if descriptor.deprecated else call
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
        if self.connectors.closed:
            return ChannelConnectivity.SHUTDOWN
        if try_to_connect:
            connector = self.connector()
            connector.connect()
            return connector.state
        found = self.connectors.find()
        return ChannelConnectivity.IDLE if found is None else found.state

    async def wait_for_state_change(self, last_observed_state: ChannelConnectivity) -> None:
        """Wait until the state is another than the one last seen."""
        await self.connector().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Connect, and wait until that has succeeded; tries for ever."""
        state = self.get_state(try_to_connect=True)
        while state is not ChannelConnectivity.READY:
            await self.wait_for_state_change(state)
            state = self.get_state(try_to_connect=True)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel. Calls in flight may end for `grace` seconds, then are cancelled."""
        await self.connectors.close(grace)

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
    compression: Compression | None = None,
    interceptors: Sequence[ClientInterceptor | Interceptor] | None = None,
    *,
    limits: RpcLimits | None = None,
    connections: int = 1,
    connectivity: ClientConnectivity | None = None,
    allow_insecure_call_credentials: bool = False,
) -> Channel:
    """A channel without TLS. The arguments that gRPC has too are as in gRPC.

    Args:
        target: ``host:port``, ``unix:path``, ... (`raw.parse_addresses` lists the forms).
        options: gRPC's ``(name, value)`` pairs: those of message and metadata sizes, of keepalive
            and of reconnecting, ``grpc.lb_policy_name`` and ``grpc.ssl_target_name_override`` are
            honoured, others accepted.
        compression: of requests, for a server that understands it, unless a call says otherwise.
        interceptors: of gRPC's classes and of this package's shape (`service.interceptors`), the
            outermost first.
        limits: sizes; see `RpcLimits`.
        connections: how many to have to each address.
        connectivity: how they are found, made and kept; see `ClientConnectivity`.
        allow_insecure_call_credentials: let calls send their credentials for all to read.

    Raises:
        RuntimeError: `compression` is Zstd, without its library.
        ValueError: the target has no known form, `connections` is below 1, or an interceptor is
            none.
    """
    return Channel(
        target,
        limits=limits_of(options, limits),
        connections=connections,
        connectivity=connectivity_of(options, connectivity),
        compression=compression,
        interceptors=interceptors or (),
        allow_insecure_call_credentials=allow_insecure_call_credentials,
    )


def secure_channel(
    target: str,
    credentials: ChannelCredentials | ssl_module.SSLContext,
    options: Iterable[tuple[str, Any]] | None = None,
    compression: Compression | None = None,
    interceptors: Sequence[ClientInterceptor | Interceptor] | None = None,
    *,
    server_hostname: str | None = None,
    limits: RpcLimits | None = None,
    connections: int = 1,
    connectivity: ClientConnectivity | None = None,
    allow_insecure_call_credentials: bool = False,
) -> Channel:
    """A channel with TLS, or with other credentials.

    Args:
        credentials: such as `ssl_channel_credentials` makes; or a context to speak TLS with, as
            for `ssl_context_channel_credentials`.
        server_hostname: the name to expect in the server's certificate, if not the target's.

    The other arguments are those of `insecure_channel`.
    """
    return Channel(
        target,
        credentials=to_channel_credentials(credentials),
        server_hostname=server_hostname or target_name_of(options),
        limits=limits_of(options, limits),
        connections=connections,
        connectivity=connectivity_of(options, connectivity),
        compression=compression,
        interceptors=interceptors or (),
        allow_insecure_call_credentials=allow_insecure_call_credentials,
    )
