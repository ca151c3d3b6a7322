"""protosocket with generated stubs: servicer and client are those of grpc.aio."""

from __future__ import annotations

from typing import Any

import echo_protosocket

import protosocket_rpc
from benchmarks.peers import asyncio_peer
from benchmarks.peers.surface import Bench, Client, PassOnClient, PassOnServer
from benchmarks.wide import METHODS, SERVICES, generated, last_stub
from benchmarks.work import Endpoint

# Seconds of busy polling after each traffic, where that is asked for.
BUSY_POLL = 0.0002
OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


class Servicer(Bench, echo_protosocket.BenchServicer):
    pass


class ClientInterceptor(PassOnClient, protosocket_rpc.UnaryUnaryClientInterceptor):
    pass


class ServerInterceptor(PassOnServer, protosocket_rpc.ServerInterceptor):
    pass


async def connect(endpoint: Endpoint, connections: int = 1) -> Client:
    interceptors = [ClientInterceptor()] if endpoint.interceptor == "client" else None
    poll = BUSY_POLL if endpoint.busy_poll else None
    connectivity = protosocket_rpc.ClientConnectivity(busy_poll=poll)
    if endpoint.tls:
        authority = (endpoint.tls / "ca.pem").read_bytes()
        credentials = protosocket_rpc.ssl_channel_credentials(authority)
        channel = protosocket_rpc.secure_channel(
            endpoint.address,
            credentials,
            OPTIONS,
            None,
            interceptors,
            connections=connections,
            connectivity=connectivity,
        )
    else:
        channel = protosocket_rpc.insecure_channel(
            endpoint.address,
            OPTIONS,
            None,
            interceptors,
            connections=connections,
            connectivity=connectivity,
        )
    await channel.channel_ready()
    wide = last_stub("wide_protosocket")(channel) if endpoint.wide else None
    return Client(channel, echo_protosocket.BenchStub(channel), wide)


async def listen(endpoint: Endpoint) -> Any:
    interceptors = [ServerInterceptor()] if endpoint.interceptor == "server" else None
    poll = BUSY_POLL if endpoint.busy_poll else None
    connectivity = protosocket_rpc.ServerConnectivity(busy_poll=poll)
    server = protosocket_rpc.server(
        interceptors=interceptors, options=OPTIONS, connectivity=connectivity
    )
    echo_protosocket.add_BenchServicer_to_server(Servicer(), server)
    for service in SERVICES if endpoint.wide else ():
        base = getattr(generated("wide_protosocket"), f"{service}Servicer")
        methods = dict.fromkeys(METHODS, Bench.Unary)
        servicer = type(service, (base,), methods)()
        getattr(generated("wide_protosocket"), f"add_{service}Servicer_to_server")(servicer, server)
    if endpoint.tls:
        pair = ((endpoint.tls / "key.pem").read_bytes(), (endpoint.tls / "cert.pem").read_bytes())
        credentials = protosocket_rpc.ssl_server_credentials([pair])
        server.add_secure_port(endpoint.address, credentials)
    else:
        server.add_insecure_port(endpoint.address)
    await server.start()
    return server


def drive(endpoint: Endpoint) -> None:
    asyncio_peer.drive(connect, endpoint)


def serve(endpoint: Endpoint) -> None:
    asyncio_peer.serve_forever(lambda: listen(endpoint))
