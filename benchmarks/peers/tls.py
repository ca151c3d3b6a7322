"""TLS contexts for the peers that use the standard library's."""

from __future__ import annotations

import ssl

from benchmarks.work import Endpoint


def client_tls(endpoint: Endpoint, *protocols: str) -> ssl.SSLContext | None:
    """`protocols` are those of ALPN."""
    if not endpoint.tls:
        return None
    context = ssl.create_default_context(cafile=endpoint.tls / "ca.pem")
    context.set_alpn_protocols(protocols)
    return context


def server_tls(endpoint: Endpoint, *protocols: str) -> ssl.SSLContext | None:
    if not endpoint.tls:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(endpoint.tls / "cert.pem", endpoint.tls / "key.pem")
    context.set_alpn_protocols(protocols)
    return context
