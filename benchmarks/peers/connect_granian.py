"""connect-py on granian."""

from __future__ import annotations

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP2Settings

from benchmarks.peers.connect import application_name, drive
from benchmarks.work import Endpoint

__all__ = ["drive", "serve"]


def serve(endpoint: Endpoint) -> None:
    Granian(
        application_name(endpoint),
        address=endpoint.host,
        port=endpoint.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http2,
        http2_settings=HTTP2Settings(max_concurrent_streams=100_000),
        backpressure=100_000,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.st,
        websockets=False,
        log_enabled=False,
        ssl_cert=endpoint.tls / "cert.pem" if endpoint.tls else None,
        ssl_key=endpoint.tls / "key.pem" if endpoint.tls else None,
    ).serve()
