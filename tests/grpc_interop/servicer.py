"""The server's features, for every library: ``context`` and ``library`` have the same names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from tests.grpc_interop.library import Library
from tests.grpc_interop.meter import Meter

INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


class Handlers:
    """``TestService`` but for its UnimplementedCall.

    Attributes:
        requests: what clients have sent.
    """

    library: Library
    requests: Meter

    async def EmptyCall(self, request: Any, context: Any) -> Any:
        return self.library.pb.Empty()

    async def UnaryCall(self, request: Any, context: Any) -> Any:
        await self.check_compression([request], context)
        wish = request.response_compressed
        self.compress([wish], context)
        # grpcio's own does not compress a single reply whose initial metadata go with it.
        await self.echo_metadata(context, early=wish.value)
        await self.echo_status(request, context)
        self.compress_next(wish, context)
        return self.library.pb.SimpleResponse(payload=self.payload(request.response_size))

    async def StreamingInputCall(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        requests = [request async for request in request_iterator]
        await self.check_compression(requests, context)
        size = sum(len(request.payload.body) for request in requests)
        return self.library.pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.compress([wanted.compressed for wanted in request.response_parameters], context)
        for wanted in request.response_parameters:
            self.compress_next(wanted.compressed, context)
            yield await self.reply(wanted)

    async def FullDuplexCall(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        await self.echo_metadata(context)
        async for request in request_iterator:
            await self.echo_status(request, context)
            for wanted in request.response_parameters:
                yield await self.reply(wanted)

    def payload(self, size: int) -> Any:
        return self.library.pb.Payload(body=bytes(size))

    async def reply(self, wanted: Any) -> Any:
        await asyncio.sleep(wanted.interval_us / 1e6)
        return self.library.pb.StreamingOutputCallResponse(payload=self.payload(wanted.size))

    async def echo_metadata(self, context: Any, *, early: bool = False) -> None:
        metadata = dict(context.invocation_metadata())
        initial = ((INITIAL, metadata[INITIAL]),) if INITIAL in metadata else ()
        if initial or early:
            await context.send_initial_metadata(initial)
        if TRAILING in metadata:
            context.set_trailing_metadata(((TRAILING, metadata[TRAILING]),))

    async def echo_status(self, request: Any, context: Any) -> None:
        if request.HasField("response_status"):
            status = request.response_status
            codes = {code.value[0]: code for code in self.library.grpc.StatusCode}
            await context.abort(codes[status.code], status.message)

    async def check_compression(self, requests: Iterable[Any], context: Any) -> None:
        """Refuse an RPC whose requests were not compressed as they say."""
        told = [request for request in requests if request.HasField("expect_compressed")]
        plain = sum(len(each.payload.body) for each in told if not each.expect_compressed.value)
        if told and not self.requests.passed(uncompressed=plain):
            invalid = self.library.grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(invalid, "not compressed as expected")

    def compress(self, wishes: Iterable[Any], context: Any) -> None:
        """Compress the replies, if any is to be compressed."""
        if any(wish.value for wish in wishes):
            context.set_compression(self.library.grpc.Compression.Gzip)

    def compress_next(self, wish: Any, context: Any) -> None:
        if not wish.value:
            context.disable_next_message_compression()
