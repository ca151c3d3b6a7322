"""connect-py on pyvoy."""

from __future__ import annotations

from pyvoy import PyvoyServer

from benchmarks.peers import asyncio_peer
from benchmarks.peers.connect import application_name, drive
from benchmarks.work import Endpoint

__all__ = ["drive", "serve"]


def serve(endpoint: Endpoint) -> None:
    tls = endpoint.tls
    server = PyvoyServer(
        application_name(endpoint),
        address=endpoint.host,
        port=endpoint.port,
        tls_cert=tls / "cert.pem" if tls else None,
        tls_key=tls / "key.pem" if tls else None,
        loop="uvloop",
        additional_envoy_args=["--concurrency", "1"],
    )
    asyncio_peer.serve_forever(server.__aenter__)
