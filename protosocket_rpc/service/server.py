"""Server: services, ports, and a stop that loses nothing. ``grpc.aio.Server``."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from protosocket_rpc.eager import start_later
from protosocket_rpc.errors import UsageError
from protosocket_rpc.raw import Binding, Limits, bind, serve
from protosocket_rpc.service.compression import Compression, wire_compression
from protosocket_rpc.service.connectivity import ServerConnectivity
from protosocket_rpc.service.credentials import ServerCredentials, to_server_credentials
from protosocket_rpc.service.descriptor import ServiceDescriptor
from protosocket_rpc.service.interceptors import Interceptor
from protosocket_rpc.service.limits import RpcLimits
from protosocket_rpc.service.metrics import ServerMetrics, Snapshot, empty_snapshot
from protosocket_rpc.service.options import limits_of, reuse_port_of, server_connectivity_of
from protosocket_rpc.service.routes import Routes
from protosocket_rpc.service.rpc_handlers import GenericRpcHandler, RpcMethodHandler
from protosocket_rpc.service.running import Running
from protosocket_rpc.service.server_connection import ServiceConnection
from protosocket_rpc.service.server_interceptors import ServerInterceptor
from protosocket_rpc.service.serving import DEFAULT_GRACE, StopOnSignal
from protosocket_rpc.wire.codec import FrameCodec


class Server:
    """Serves the methods of servicers on one or more ports. Made by `server()`.

    Usable on one event loop at a time; making it and adding to it needs none.
    """

    def __init__(
        self,
        *,
        limits: RpcLimits | None = None,
        maximum_concurrent_rpcs: int | None = None,
        connectivity: ServerConnectivity | None = None,
        thread_pool: Executor | None = None,
        interceptors: Sequence[ServerInterceptor | Interceptor] = (),
        compression: Compression | None = None,
        reuse_port: bool = False,
        metrics: ServerMetrics | None = None,
    ) -> None:
        """Use `server()`.

        Args:
            limits: sizes; see `RpcLimits`.
            connectivity: how connections are kept, and how many; see `ServerConnectivity`.
            maximum_concurrent_rpcs: RPCs in flight at a time; more end with RESOURCE_EXHAUSTED.
            thread_pool: where plain functions are run; None for the event loop's own pool.
            interceptors, compression, reuse_port, metrics: as for `server()`.
        """
        self.limits = limits or RpcLimits()
        self.maximum_concurrent_rpcs = maximum_concurrent_rpcs
        self.connectivity = connectivity or ServerConnectivity()
        self._reuse_port = reuse_port
        self.metrics = metrics
        self._routes = Routes(interceptors, thread_pool, wire_compression(compression))
        self._bindings: list[tuple[Binding, ServerCredentials]] = []
        self._running: Running | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._stopped: asyncio.Event | None = None

    def add(self, servicer: object, service: ServiceDescriptor | None = None) -> None:
        """Serve the methods of a servicer.

        Args:
            servicer: an object of a class that is derived from generated servicers, or any
                object with the service's methods if `service` is given.
            service: the service that it is to serve.

        Raises:
            TypeError: a method is missing, or is of the wrong kind.
            ValueError: a method of that path is served already.
        """
        self._routes.add(servicer, service)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[GenericRpcHandler]) -> None:
        """Serve what these find handlers for; the first that has one serves it. As in gRPC.

        Raises:
            TypeError: a function cannot serve its kind of method.
        """
        for generic in generic_rpc_handlers:
            self._routes.add_generic(generic)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, RpcMethodHandler]
    ) -> None:
        """Serve the methods of a service; they come before generic handlers. As in gRPC.

        Args:
            service_name: its full name, ``package.Service``.
            method_handlers: by the methods' own names.

        Raises:
            TypeError: a function cannot serve its kind of method.
        """
        self._routes.add_registered(service_name, method_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Listen on `address`, without TLS, once started.

        Returns:
            The port: the system's choice if the address says 0; 0 for a Unix socket.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        return self._add_port(address, ServerCredentials())

    def add_secure_port(
        self, address: str, server_credentials: ServerCredentials | ssl_module.SSLContext
    ) -> int:
        """Listen on `address`, with TLS or other credentials. As `add_insecure_port`.

        Args:
            server_credentials: such as `ssl_server_credentials` makes; or a context to speak TLS
                with, as for `ssl_context_server_credentials`.
        """
        return self._add_port(address, to_server_credentials(server_credentials))

    def add_binding(
        self,
        binding: Binding,
        server_credentials: ServerCredentials | ssl_module.SSLContext | None = None,
    ) -> None:
        """Listen on what `raw.bind` made, or was made of sockets from elsewhere, once started.

        Args:
            server_credentials: as for `add_secure_port`; None for no TLS.

        Raises:
            UsageError: the server was started.
        """
        if self._running is not None:
            raise UsageError("ports are added before the server is started")
        credentials = ServerCredentials()
        if server_credentials is not None:
            credentials = to_server_credentials(server_credentials)
        self._bindings.append((binding, credentials))

    @property
    def has_ports(self) -> bool:
        """True if there is anything to listen on."""
        return bool(self._bindings)

    def snapshot(self) -> Snapshot:
        """What its `metrics` have counted (nothing, without), and what is going on now."""
        return empty_snapshot() if self._running is None else self._running.snapshot()

    def _add_port(self, address: str, credentials: ServerCredentials) -> int:
        if self._running is not None:
            raise UsageError("ports are added before the server is started")
        try:
            binding = bind(address, reuse_port=self._reuse_port)
        except OSError as error:
            raise RuntimeError(f"Failed to bind to address {address}: {error}") from error
        self._bindings.append((binding, credentials))
        return binding.address.port

    async def start(self) -> None:
        """Begin to serve. Returns when every port listens.

        Raises:
            UsageError: it was started before.
            OSError: the system cannot listen on one of them. None listens then, and the server has
                stopped.
        """
        if self._running is not None or self._stopped is not None:
            raise UsageError("the server was started before")
        self._stopped = asyncio.Event()
        running = self._running = Running(
            asyncio.get_running_loop(),
            self._routes,
            self.limits,
            self.connectivity,
            self.maximum_concurrent_rpcs,
            self.metrics,
        )
        max_frame_size = self.limits.max_frame_size  # one number for all connections
        limits = Limits(
            max_buffer=max_frame_size + 64,
            max_queued_output=self.limits.max_queued_output,
        )
        try:
            for binding, credentials in self._bindings:
                running.listeners.append(
                    await serve(
                        binding,
                        lambda: FrameCodec(max_frame_size),
                        partial(ServiceConnection, running, credentials),
                        ssl=credentials.ssl,
                        log_ends=False,
                        limits=limits,
                        busy_poll=self.connectivity.busy_poll,
                    )
                )
        except BaseException:
            await self.stop(None)  # those that listen already
            for binding, _ in self._bindings:
                binding.close()
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Stop: no new RPCs, wait for those in flight, cancel what is left, close.

        Every handler's coroutine has ended when this returns. May be called again, with a
        shorter grace to speed up.

        Args:
            grace: seconds that RPCs in flight have to end; None for none at all.
        """
        running = self._running
        if running is None:
            for binding, _ in self._bindings:
                binding.close()
            self._bindings.clear()
            return
        if self._stopping is None:
            self._stopping = start_later(running.loop, self._stop(running, grace))
        elif not self._stopping.done():
            running.hurry(grace)
        await asyncio.shield(self._stopping)

    async def _stop(self, running: Running, grace: float | None) -> None:
        await running.stop(grace)
        assert self._stopped is not None
        self._stopped.set()

    async def serve_forever(self, grace: float | None = DEFAULT_GRACE) -> None:
        """Serve until SIGTERM, Ctrl-C, `stop()`, or the running task's cancellation.

        Starts the server, unless that was done.

        On a signal: no new RPCs, those in flight end within `grace`, the rest is cancelled, and
        every handler has ended when this returns. A second signal cuts the grace short.
        `protosocket_rpc.run` does this in an event loop of its own.

        Args:
            grace: seconds that RPCs in flight have to end; None for none at all.

        Raises:
            UsageError: the server has no port. (`start` takes one without, as in gRPC.)
        """
        if not self.has_ports:
            raise UsageError(
                "the server has no port: add one by add_insecure_port or add_secure_port"
            )
        with StopOnSignal(self, grace) as signals:
            if self._running is None:
                await self.start()
            try:
                await self.wait_for_termination()
            except asyncio.CancelledError:
                await self.stop(None)
                raise
            await signals.wait_stopped()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped.

        Args:
            timeout: seconds to wait; None is for ever.

        Returns:
            True if the time ran out first. (As in gRPC.)
        """
        if self._stopped is None:
            raise UsageError("the server was not started")
        try:
            await asyncio.wait_for(self._stopped.wait(), timeout)
        except asyncio.TimeoutError:
            return True
        return False

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop(None)


def server(
    migration_thread_pool: Executor | None = None,
    handlers: Iterable[GenericRpcHandler] | None = None,
    interceptors: Iterable[ServerInterceptor | Interceptor] | None = None,
    options: Iterable[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: Compression | None = None,
    *,
    limits: RpcLimits | None = None,
    connectivity: ServerConnectivity | None = None,
    reuse_port: bool = False,
    metrics: ServerMetrics | None = None,
) -> Server:
    """Make a server. The arguments that gRPC has too are as in gRPC.

    Args:
        migration_thread_pool: where handlers that are plain functions are run; None for the event
            loop's own pool.
        handlers: what finds handlers; `Server.add_generic_rpc_handlers` adds more.
        interceptors: of gRPC's shape and of this package's (`service.interceptors`), the
            outermost first.
        options: gRPC's ``(name, value)`` pairs: those of message and metadata sizes, of keepalive
            and of the age of connections, and ``grpc.so_reuseport`` are honoured, others accepted.
        maximum_concurrent_rpcs: RPCs in flight at a time; more end with RESOURCE_EXHAUSTED.
        compression: of replies, for clients that understand it, unless a handler says otherwise.
        limits: sizes; see `RpcLimits`.
        connectivity: how connections are kept, and how many; see `ServerConnectivity`.
        reuse_port: share ports with other processes that say so too; the system spreads the
            connections over them.
        metrics: what counts the RPCs, for `Server.snapshot`; None for nothing.

    Raises:
        RuntimeError: `compression` is Zstd, without its library.
        ValueError: an interceptor is none.
    """
    made = Server(
        limits=limits_of(options, limits),
        maximum_concurrent_rpcs=maximum_concurrent_rpcs,
        connectivity=server_connectivity_of(options, connectivity),
        thread_pool=migration_thread_pool,
        interceptors=list(interceptors or ()),
        compression=compression,
        reuse_port=reuse_port_of(options, reuse_port),
        metrics=metrics,
    )
    made.add_generic_rpc_handlers(handlers or ())
    return made
