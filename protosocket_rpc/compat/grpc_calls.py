"""Calls over gRPC that look like this package's own: they give its types, and raise its errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

from protosocket_rpc.compat.grpcio import aio, grpc
from protosocket_rpc.errors import AioRpcError
from protosocket_rpc.metadata import Metadata, MetadataLike, metadata_from_wire
from protosocket_rpc.service.call_credentials import AuthMetadataContext, CallCredentials
from protosocket_rpc.service.compression import Compression
from protosocket_rpc.service.context import EOF
from protosocket_rpc.service.current import CURRENT_RPC
from protosocket_rpc.service.debug import DebugString
from protosocket_rpc.service.descriptor import MethodDescriptor
from protosocket_rpc.status import StatusCode, to_status_code


class GrpcMethod:
    """Calls a method over a ``grpc.aio`` channel, with the arguments of this package's own."""

    def __init__(self, channel: Any, descriptor: MethodDescriptor[Any, Any]) -> None:
        requests = "stream" if descriptor.streams_requests else "unary"
        replies = "stream" if descriptor.streams_replies else "unary"
        make = getattr(channel, f"{requests}_{replies}")
        self._call = make(descriptor.path, descriptor.request.serialize, descriptor.reply.parse)
        self._timeout = descriptor.timeout
        self._wrap: Any = _WithReplies if descriptor.streams_replies else _WithReply

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: Compression | None = None,
    ) -> GrpcCall:
        """Start a call. A stream of requests comes from an iterator."""
        parent = CURRENT_RPC.get()
        if parent is not None and parent.ended and not parent.cancelled():
            parent = None
        timeout = self._timeout if timeout is None else timeout
        left = None if parent is None else parent.time_remaining()
        if left is not None and (timeout is None or left < timeout):
            timeout = left
        made: GrpcCall = self._wrap(
            self._call(
                request,
                timeout=timeout,
                metadata=None if metadata is None else aio.Metadata(*metadata),
                credentials=None if credentials is None else _to_grpc(credentials),
                wait_for_ready=wait_for_ready,
                compression=_compression(compression),
            )
        )
        if parent is not None:
            parent.adopt(made)
            made.add_done_callback(parent.disown)
        return made


def _compression(compression: Compression | None) -> Any:
    if compression is None or compression is Compression.Zstd:  # which gRPC has not
        return None
    return grpc.Compression(compression)


def _to_grpc(credentials: CallCredentials) -> Any:
    loop = asyncio.get_running_loop()

    def plugin(context: Any, callback: Callable[[Any, Any], None]) -> None:
        """Runs in a thread of gRPC's."""
        asked = AuthMetadataContext(context.service_url, context.method_name)
        answer = asyncio.run_coroutine_threadsafe(credentials.metadata(asked), loop)

        def on_answer(future: Any) -> None:
            try:
                callback(tuple(metadata_from_wire(future.result())), None)
            except Exception as error:  # whatever the user's plugin raised
                callback((), error)

        answer.add_done_callback(on_answer)

    return grpc.metadata_call_credentials(plugin)


class GrpcCall:
    """A call of ``grpc.aio``."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def cancel(self) -> bool:
        return bool(self._call.cancel())

    def cancelled(self) -> bool:
        return bool(self._call.cancelled())

    def done(self) -> bool:
        return bool(self._call.done())

    def time_remaining(self) -> float | None:
        left: float | None = self._call.time_remaining()
        return left

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        self._call.add_done_callback(lambda _: callback(self))

    def on_parent_stopped(self, code: int) -> None:
        """The RPC whose handler made this call has ended."""
        self._call.cancel()

    async def initial_metadata(self) -> Metadata:
        return Metadata.from_tuple(await self._call.initial_metadata())

    async def trailing_metadata(self) -> Metadata:
        return Metadata.from_tuple(await self._call.trailing_metadata())

    async def code(self) -> StatusCode:
        return to_status_code(await self._call.code())

    async def details(self) -> str:
        return await self._call.details() or ""

    async def status_details(self) -> tuple[bytes, ...]:
        return ()  # gRPC tells them in the trailing metadata, where `rich_status` looks too

    def debug_error_string(self) -> DebugString:
        return DebugString("over gRPC")  # which tells more only to who waits for it

    async def wait_for_connection(self) -> None:
        try:
            await self._call.wait_for_connection()
        except aio.AioRpcError as error:
            raise _own(error) from None


class _WithReply(GrpcCall):
    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._call.__await__())
        except aio.AioRpcError as error:
            raise _own(error) from None


class _WithReplies(GrpcCall):
    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for reply in self._call:
                yield reply
        except aio.AioRpcError as error:
            raise _own(error) from None

    async def read(self) -> Any:
        try:
            message = await self._call.read()
        except aio.AioRpcError as error:
            raise _own(error) from None
        return EOF if message is aio.EOF else message


def _own(error: Any) -> AioRpcError:
    return AioRpcError(
        to_status_code(error.code()),
        Metadata.from_tuple(error.initial_metadata()),
        Metadata.from_tuple(error.trailing_metadata()),
        error.details(),
        error.debug_error_string(),
    )
