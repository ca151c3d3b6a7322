"""Serve by gRPC and by protosocket in one process, so that clients can move one by one.

::

    server = DualServer(protosocket_rpc.server(), grpc.aio.server())
    server.protosocket.add_insecure_port("[::]:50052")
    server.grpc.add_insecure_port("[::]:50051")
    add_GreeterServicer_to_server(Greeter(), server)   # grpcio-tools'; or
    server.add(Greeter())                              # of protosocket's own generated code
    await server.serve_forever()

All of it inside of the event loop that is to serve: grpcio binds its server to the one in which it
was made.
Servicers written for ``grpc.aio``, for its names here (`compat.grpc`) and for this package are
served alike, by the same objects. Needs grpcio: the extra ``grpc``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from protosocket_rpc.compat.grpc_context import for_grpcio, from_grpcio
from protosocket_rpc.compat.grpcio import check_loop
from protosocket_rpc.service.descriptor import ServiceDescriptor
from protosocket_rpc.service.handlers import service_handlers
from protosocket_rpc.service.rpc_handlers import (
    DictionaryGenericHandler,
    GenericRpcHandler,
    HandlerCallDetails,
    RpcMethodHandler,
    handler_of,
    is_own,
    method_handlers_generic_handler,
)
from protosocket_rpc.service.server import Server
from protosocket_rpc.service.serving import DEFAULT_GRACE, StopOnSignal

Adapt = Callable[[str, RpcMethodHandler], RpcMethodHandler]


class DualServer:
    """Two servers of the same servicers. It takes those as either of them does.

    Attributes:
        protosocket: the server of this package.
        grpc: the ``grpc.aio`` server.
    """

    def __init__(self, protosocket: Server, grpc: Any) -> None:
        """Neither has been started. Ports, limits, credentials and interceptors are their own.

        Args:
            protosocket: made by `protosocket_rpc.server()`.
            grpc: made by the real ``grpc.aio.server()``.
        """
        self.protosocket = protosocket
        self.grpc = grpc

    def add(self, servicer: object, service: ServiceDescriptor | None = None) -> None:
        """Serve the methods of a servicer of this package's generated code, as `Server.add`.

        Raises:
            TypeError: a method is missing, or is of the wrong kind.
            ValueError: a method of that path is served already.
        """
        self.protosocket.add(servicer, service)
        services: dict[str, dict[str, RpcMethodHandler]] = {}
        for path, handler in service_handlers(servicer, service, None).items():
            name, _, method = path.lstrip("/").partition("/")
            own = handler_of(handler.method, handler.function)
            services.setdefault(name, {})[method] = _for_grpc(path, own)
        for name, handlers in services.items():
            self.grpc.add_generic_rpc_handlers((method_handlers_generic_handler(name, handlers),))

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[GenericRpcHandler]) -> None:
        """Serve what these find handlers for. As in gRPC."""
        for generic in generic_rpc_handlers:
            known = isinstance(generic, DictionaryGenericHandler)  # found without asking it
            own = generic if known else _Adapted(generic, _for_protosocket)
            self.protosocket.add_generic_rpc_handlers((own,))
            self.grpc.add_generic_rpc_handlers((_Adapted(generic, _for_grpc),))

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, RpcMethodHandler]
    ) -> None:
        """Serve the methods of a service, before those of generic handlers. As in gRPC."""
        for server, adapt in ((self.protosocket, _for_protosocket), (self.grpc, _for_grpc)):
            adapted = {
                name: adapt(f"/{service_name}/{name}", handler)
                for name, handler in method_handlers.items()
            }
            server.add_registered_method_handlers(service_name, adapted)

    async def start(self) -> None:
        """Begin to serve. Returns when every port of both listens.

        Raises:
            UsageError: the ``grpc.aio`` server was made in another event loop.
        """
        check_loop(self.grpc, "make both servers inside of the coroutine that starts them")
        await self.protosocket.start()
        try:
            await self.grpc.start()
        except BaseException:
            await self.protosocket.stop(None)
            raise

    async def stop(self, grace: float | None = None) -> None:
        """Stop both, at the same time.

        Args:
            grace: seconds that RPCs in flight have to end; None for none at all.
        """
        await asyncio.gather(self.protosocket.stop(grace), self.grpc.stop(grace))

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until both have stopped.

        Args:
            timeout: seconds to wait; None is for ever.

        Returns:
            True if the time ran out first. (As in gRPC.)
        """
        over = await asyncio.gather(
            self.protosocket.wait_for_termination(timeout), self.grpc.wait_for_termination(timeout)
        )
        return any(over)

    async def serve_forever(self, grace: float | None = DEFAULT_GRACE) -> None:
        """Start, and serve until SIGTERM, Ctrl-C, `stop()`, or the running task's cancellation.

        Args:
            grace: seconds that RPCs in flight have to end; None for none at all.
        """
        with StopOnSignal(self, grace) as signals:
            await self.start()
            try:
                await self.wait_for_termination()
            except asyncio.CancelledError:
                await self.stop(None)
                raise
            await signals.wait_stopped()

    async def __aenter__(self) -> DualServer:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop(None)


class _Adapted(GenericRpcHandler):
    """Finds what another finds, adapted."""

    def __init__(self, generic: GenericRpcHandler, adapt: Adapt) -> None:
        self._generic = generic
        self._adapt = adapt

    def service(self, handler_call_details: HandlerCallDetails) -> RpcMethodHandler | None:
        found = self._generic.service(handler_call_details)
        return None if found is None else self._adapt(handler_call_details.method, found)


def _for_grpc(path: str, handler: RpcMethodHandler) -> RpcMethodHandler:
    return for_grpcio(path, handler) if is_own(handler) else handler


def _for_protosocket(path: str, handler: RpcMethodHandler) -> RpcMethodHandler:
    return handler if is_own(handler) else from_grpcio(path, handler)
