"""protosocket with generated stubs: servicer and client are those of grpc.aio."""

from __future__ import annotations

from typing import Any

import echo_protosocket
import wide_protosocket

import protosocket_rpc
from benchmarks.peers import asyncio_peer
from benchmarks.peers.surface import Bench, Client
from benchmarks.wide import LAST_SERVICE, METHODS, SERVICES
from benchmarks.work import Endpoint

OPTIONS = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


class Servicer(Bench, echo_protosocket.BenchServicer):
    pass


async def connect(endpoint: Endpoint) -> Client:
    channel = protosocket_rpc.insecure_channel(endpoint.address, OPTIONS)
    await channel.channel_ready()
    wide = getattr(wide_protosocket, f"{LAST_SERVICE}Stub")(channel) if endpoint.wide else None
    return Client(channel, echo_protosocket.BenchStub(channel), wide)


async def listen(endpoint: Endpoint) -> Any:
    server = protosocket_rpc.server(options=OPTIONS)
    echo_protosocket.add_BenchServicer_to_server(Servicer(), server)
    for service in SERVICES if endpoint.wide else ():
        base = getattr(wide_protosocket, f"{service}Servicer")
        methods = dict.fromkeys(METHODS, Bench.Unary)
        servicer = type(service, (base,), methods)()
        getattr(wide_protosocket, f"add_{service}Servicer_to_server")(servicer, server)
    server.add_insecure_port(endpoint.address)
    await server.start()
    return server


def drive(endpoint: Endpoint) -> None:
    asyncio_peer.drive(connect, endpoint)


def serve(endpoint: Endpoint) -> None:
    asyncio_peer.serve_forever(lambda: listen(endpoint))
