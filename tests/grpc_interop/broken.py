"""Servers that each do one thing wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import protosocket_rpc as ps
from tests.grpc_interop.servicer import INITIAL, TRAILING, Handlers


class Failing(Handlers):
    async def EmptyCall(self, request: Any, context: Any) -> Any:
        await context.abort(ps.StatusCode.INTERNAL, "")


class FailingLater(Handlers):
    calls = 0

    async def UnaryCall(self, request: Any, context: Any) -> Any:
        self.calls += 1
        if not self.calls % 5:
            await context.abort(ps.StatusCode.INTERNAL, "")
        return await super().UnaryCall(request, context)


class Short(Handlers):
    def payload(self, size: int) -> Any:
        return super().payload(size - 1)


class NotOnlyZeros(Handlers):
    def payload(self, size: int) -> Any:
        return self.library.pb.Payload(body=bytes(size - 1) + b"1")


class Miscounting(Handlers):
    async def StreamingInputCall(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        reply = await super().StreamingInputCall(request_iterator, context)
        reply.aggregated_payload_size -= 8
        return reply


class OneMore(Handlers):
    async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for reply in super().StreamingOutputCall(request, context):
            yield reply
        yield reply

    async def FullDuplexCall(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        async for reply in super().FullDuplexCall(request_iterator, context):
            yield reply
        yield self.library.pb.StreamingOutputCallResponse()


class Silent(Handlers):
    async def FullDuplexCall(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        return
        yield  # what makes it a generator


class NoMetadata(Handlers):
    async def echo_metadata(self, context: Any, *, early: bool = False) -> None:
        pass


class OnlyInitialMetadata(Handlers):
    async def echo_metadata(self, context: Any, *, early: bool = False) -> None:
        await context.send_initial_metadata(((INITIAL, "test_initial_metadata_value"),))


class OtherMetadata(Handlers):
    async def echo_metadata(self, context: Any, *, early: bool = False) -> None:
        await context.send_initial_metadata(((INITIAL, "test_initial_metadata_value"),))
        context.set_trailing_metadata(((TRAILING, b"\xab\xab"),))


class OtherCode(Handlers):
    async def echo_status(self, request: Any, context: Any) -> None:
        if request.HasField("response_status"):
            await context.abort(ps.StatusCode.INTERNAL, request.response_status.message)


class StrippedMessage(Handlers):
    async def echo_status(self, request: Any, context: Any) -> None:
        if request.HasField("response_status"):
            await context.abort(ps.StatusCode.UNKNOWN, request.response_status.message[:-1])


class Implemented(Handlers):
    async def UnimplementedCall(self, request: Any, context: Any) -> Any:
        return self.library.pb.Empty()


class NothingExpected(Handlers):
    async def check_compression(self, requests: Any, context: Any) -> None:
        pass


class NeverCompressing(Handlers):
    def compress(self, wishes: Any, context: Any) -> None:
        pass


class AlwaysCompressing(Handlers):
    def compress(self, wishes: Any, context: Any) -> None:
        context.set_compression(ps.Compression.Gzip)

    def compress_next(self, wish: Any, context: Any) -> None:
        pass
