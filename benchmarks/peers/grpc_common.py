"""Options and credentials of grpcio, for its asyncio and its threaded API."""

from __future__ import annotations

from pathlib import Path

import grpc

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a connection for each channel
)


def channel_credentials(tls: Path) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials((tls / "ca.pem").read_bytes())


def server_credentials(tls: Path) -> grpc.ServerCredentials:
    pair = ((tls / "key.pem").read_bytes(), (tls / "cert.pem").read_bytes())
    return grpc.ssl_server_credentials([pair])
