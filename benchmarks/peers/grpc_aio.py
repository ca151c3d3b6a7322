"""grpc.aio with generated stubs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import echo_pb2_grpc
from grpc import aio

from benchmarks.peers import asyncio_peer
from benchmarks.peers.grpc_common import OPTIONS, channel_credentials, server_credentials
from benchmarks.peers.surface import Bench, Client, PassOnClient, PassOnServer
from benchmarks.wide import SERVICES, generated, last_stub
from benchmarks.work import Endpoint


class Servicer(Bench, echo_pb2_grpc.BenchServicer):
    pass


class WideServicer:
    """Serves every method of any of the 50 services."""

    def __getattr__(self, method: str) -> Callable[[Any, Any], Awaitable[Any]]:
        return Servicer().Unary


class ClientInterceptor(PassOnClient, aio.UnaryUnaryClientInterceptor):
    pass


class ServerInterceptor(PassOnServer, aio.ServerInterceptor):
    pass


async def connect(endpoint: Endpoint) -> Client:
    interceptors = [ClientInterceptor()] if endpoint.interceptor == "client" else None
    if endpoint.tls:
        credentials = channel_credentials(endpoint.tls)
        channel = aio.secure_channel(endpoint.address, credentials, OPTIONS, None, interceptors)
    else:
        channel = aio.insecure_channel(endpoint.address, OPTIONS, None, interceptors)
    await channel.channel_ready()
    wide = last_stub("wide_pb2_grpc")(channel) if endpoint.wide else None
    return Client(channel, echo_pb2_grpc.BenchStub(channel), wide)


async def listen(endpoint: Endpoint) -> aio.Server:
    interceptors = [ServerInterceptor()] if endpoint.interceptor == "server" else None
    server = aio.server(interceptors=interceptors, options=OPTIONS)
    echo_pb2_grpc.add_BenchServicer_to_server(Servicer(), server)
    for service in SERVICES if endpoint.wide else ():
        getattr(generated("wide_pb2_grpc"), f"add_{service}Servicer_to_server")(
            WideServicer(), server
        )
    if endpoint.tls:
        server.add_secure_port(endpoint.address, server_credentials(endpoint.tls))
    else:
        server.add_insecure_port(endpoint.address)
    await server.start()
    return server


def drive(endpoint: Endpoint) -> None:
    asyncio_peer.drive(connect, endpoint)


def serve(endpoint: Endpoint) -> None:
    asyncio_peer.serve_forever(lambda: listen(endpoint))
