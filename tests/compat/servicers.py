"""The same service, written for `grpc.aio` (of either library) and for generated code of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import protosocket_rpc as ps

UNARY = ps.UnaryUnaryMethod("/test.Service/Unary", ps.BYTES, ps.BYTES)
SERVICE = ps.ServiceDescriptor(
    "test.Service",
    (
        UNARY,
        ps.UnaryStreamMethod("/test.Service/Replies", ps.BYTES, ps.BYTES),
        ps.StreamUnaryMethod("/test.Service/Requests", ps.BYTES, ps.BYTES),
        ps.StreamStreamMethod("/test.Service/Both", ps.BYTES, ps.BYTES),
    ),
)


class Servicer:
    """Written against one library's names: `grpc` is grpcio, or ours.

    Attributes:
        seen: what the handlers saw.
        cancelled: set when a handler was cancelled.
    """

    def __init__(self, grpc: Any) -> None:
        self.grpc = grpc
        self.seen: list[Any] = []
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def Unary(self, request: bytes, context: Any) -> bytes:
        grpc = self.grpc
        if request == b"abort":
            try:
                await context.abort(
                    grpc.StatusCode.NOT_FOUND, "no such thing", (("left", "1"), ("at-bin", b"\x00"))
                )
            except grpc.aio.AbortError:
                self.seen.append("AbortError")
                raise
        if request == b"set_code":
            context.set_code(grpc.StatusCode.DATA_LOSS)
            context.set_details("gone")
        if request == b"wait":
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if request == b"time":
            left = context.time_remaining()
            return b"none" if left is None else b"%d" % round(left)
        if request == b"metadata":
            metadata = dict(context.invocation_metadata())
            await context.send_initial_metadata((("first", "a"),))
            context.set_trailing_metadata((("last-bin", b"\xff"),))
            return str(metadata["key"]).encode()
        if request == b"compressed":
            context.set_compression(grpc.Compression.Gzip)
            return bytes(10_000)
        return request

    async def Replies(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield request

    async def Requests(self, request_iterator: Any, context: Any) -> bytes:
        joined = b""
        while (request := await context.read()) is not self.grpc.aio.EOF:
            joined += request
        return joined

    async def Both(self, request_iterator: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in request_iterator:
            yield request


def handlers_of(servicer: Servicer, grpc: Any) -> dict[str, Any]:
    """As in a `_pb2_grpc.py` file that imports this `grpc`."""
    return {
        "Unary": grpc.unary_unary_rpc_method_handler(servicer.Unary),
        "Replies": grpc.unary_stream_rpc_method_handler(servicer.Replies),
        "Requests": grpc.stream_unary_rpc_method_handler(servicer.Requests),
        "Both": grpc.stream_stream_rpc_method_handler(servicer.Both),
    }


async def stream(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message
