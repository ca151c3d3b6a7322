"""The four compression cases; what was compressed, the server's and the client's meters tell."""

from __future__ import annotations

import random
from typing import Any

from tests.grpc_interop.base_cases import LARGE_REPLY, ended, large_request, size_of
from tests.grpc_interop.calling import Client, failure

REFUSED = ["INVALID_ARGUMENT", "not compressed as expected"]


async def client_compressed_unary(client: Client) -> Any:
    pb, kinds = client.library.pb, client.library.grpc.Compression
    yes = large_request(client, expect_compressed=pb.BoolValue(value=True))
    no = large_request(client, expect_compressed=pb.BoolValue(value=False))
    probe = await failure(client, client.stub.UnaryCall(yes))
    assert probe == REFUSED
    sizes = []
    for request, kind in ((yes, kinds.Gzip), (no, kinds.NoCompression)):
        reply = await client.stub.UnaryCall(request, compression=kind)
        sizes.append(size_of(reply, LARGE_REPLY))
    return [probe, sizes]


async def server_compressed_unary(client: Client) -> Any:
    assert client.replies is not None
    client.replies.passed(uncompressed=0)
    sizes = []
    for compressed in (True, False):
        wish = client.library.pb.BoolValue(value=compressed)
        reply = await client.stub.UnaryCall(large_request(client, response_compressed=wish))
        sizes.append(size_of(reply, LARGE_REPLY))
        assert client.replies.passed(uncompressed=0 if compressed else LARGE_REPLY)
    return sizes


async def client_compressed_streaming(client: Client) -> Any:
    """As described, but for the body of the message that is not to be compressed.

    Neither library lets a client choose for a message: of a call that compresses, those go
    uncompressed that would not be shorter, such as random bytes.
    """
    kinds = client.library.grpc.Compression
    probe = client.stub.StreamingInputCall(iter([_expecting(client, True, bytes(27182))]))
    refused = await failure(client, probe)
    assert refused == REFUSED
    requests = [
        _expecting(client, True, bytes(27182)),
        _expecting(client, False, random.Random(0).randbytes(45904)),
    ]
    reply = await client.stub.StreamingInputCall(iter(requests), compression=kinds.Gzip)
    assert reply.aggregated_payload_size == 73086
    return [refused, reply.aggregated_payload_size]


def _expecting(client: Client, compressed: bool, body: bytes) -> Any:
    pb = client.library.pb
    expected = pb.BoolValue(value=compressed)
    return pb.StreamingInputCallRequest(expect_compressed=expected, payload=pb.Payload(body=body))


async def server_compressed_streaming(client: Client) -> Any:
    pb = client.library.pb
    wanted = [
        pb.ResponseParameters(size=31415, compressed=pb.BoolValue(value=True)),
        pb.ResponseParameters(size=92653, compressed=pb.BoolValue(value=False)),
    ]
    call = client.stub.StreamingOutputCall(
        pb.StreamingOutputCallRequest(response_parameters=wanted)
    )
    sizes = [size_of(await call.read(), size) for size in (31415, 92653)]
    observed = [sizes, await ended(client, call)]
    assert client.replies is not None
    assert client.replies.passed(uncompressed=92653)
    return observed


CASES = [
    *(client_compressed_unary, server_compressed_unary),
    *(client_compressed_streaming, server_compressed_streaming),
]
