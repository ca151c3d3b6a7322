"""One process serves the same servicers over gRPC and over protosocket, to clients of both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc as real
import grpc.aio
import pytest
from compat.servicers import SERVICE, Servicer, handlers_of, stream
from google.rpc.error_details_pb2 import ErrorInfo
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.compat import grpc as compat
from protosocket_rpc.compat.dual_server import DualServer

WRITTEN_FOR = ["grpcio", "compat", "native"]


@asynccontextmanager
async def serving(
    written_for: str, servicer: Any = None, *, registered: bool = True, **options: Any
) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """A servicer, and a channel by each protocol."""
    library = real if written_for == "grpcio" else compat
    servicer = servicer or Servicer(library)
    server = DualServer(ps.server(**options), real.aio.server(**options))
    if written_for == "native":
        server.add(servicer, SERVICE)
    else:
        handlers = handlers_of(servicer, library)
        generic = library.method_handlers_generic_handler("test.Service", handlers)
        server.add_generic_rpc_handlers((generic,))
        if registered:
            server.add_registered_method_handlers("test.Service", handlers)
    own = server.protosocket.add_insecure_port("127.0.0.1:0")
    grpc_port = server.grpc.add_insecure_port("127.0.0.1:0")
    async with (
        server,
        ps.insecure_channel(f"127.0.0.1:{own}") as channel,
        real.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as grpc_channel,
    ):
        yield servicer, {"protosocket": channel, "grpc": grpc_channel}


@pytest.mark.parametrize("protocol", ["protosocket", "grpc"])
@pytest.mark.parametrize("written_for", WRITTEN_FOR)
async def test_all_kinds(written_for: str, protocol: str) -> None:
    async with serving(written_for) as (_, channels):
        channel = channels[protocol]
        assert await channel.unary_unary("/test.Service/Unary")(b"a") == b"a"
        replies = channel.unary_stream("/test.Service/Replies")(b"b")
        assert [reply async for reply in replies] == [b"b"] * 3
        requests = channel.stream_unary("/test.Service/Requests")(stream(b"c", b"d"))
        assert await requests == b"cd"
        both = channel.stream_stream("/test.Service/Both")(stream(b"e", b"f"))
        assert [reply async for reply in both] == [b"e", b"f"]


@pytest.mark.parametrize("written_for", ["grpcio", "compat"])
async def test_generic_handlers_alone(written_for: str) -> None:
    """As older versions of grpcio-tools generate it."""
    async with serving(written_for, registered=False) as (_, channels):
        for channel in channels.values():
            assert await channel.unary_unary("/test.Service/Unary")(b"a") == b"a"
            with pytest.raises((ps.AioRpcError, real.aio.AioRpcError)) as caught:
                await channel.unary_unary("/test.Service/Nothing")(b"a")
            assert caught.value.code().name == "UNIMPLEMENTED"


@pytest.mark.parametrize("protocol", ["protosocket", "grpc"])
@pytest.mark.parametrize("written_for", WRITTEN_FOR)
async def test_status_and_metadata(
    written_for: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(written_for) as (servicer, channels):
        unary = channels[protocol].unary_unary("/test.Service/Unary")
        with pytest.raises((ps.AioRpcError, real.aio.AioRpcError)) as caught:
            await unary(b"abort")
        error = caught.value
        assert (error.code().name, error.details()) == ("NOT_FOUND", "no such thing")
        assert tuple(error.trailing_metadata()) == (("left", "1"), ("at-bin", b"\x00"))
        await wait_until(lambda: servicer.seen)  # the client may know before the handler does
        assert servicer.seen == ["AbortError"]
        with pytest.raises((ps.AioRpcError, real.aio.AioRpcError)) as caught:
            await unary(b"set_code")
        assert (caught.value.code().name, caught.value.details()) == ("DATA_LOSS", "gone")

        call = unary(b"metadata", metadata=(("key", "value"),))
        assert await call == b"value"
        assert (await call.initial_metadata())["first"] == "a"
        assert (await call.trailing_metadata())["last-bin"] == b"\xff"
        assert await unary(b"compressed") == bytes(10_000)
        assert 90 < int(await unary(b"time", timeout=100)) < 110
        assert await unary(b"time") == b"none"
    assert not caplog.records


@pytest.mark.parametrize("protocol", ["protosocket", "grpc"])
@pytest.mark.parametrize("written_for", WRITTEN_FOR)
@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_ends_over_the_head_of_the_handler(written_for: str, protocol: str, how: str) -> None:
    async with serving(written_for) as (servicer, channels):
        unary = channels[protocol].unary_unary("/test.Service/Unary")
        assert await unary(b"connected") == b"connected"
        call = unary(b"wait", timeout=None if how == "cancel" else 0.3)
        await servicer.started.wait()
        if how == "cancel":
            call.cancel()
        assert (await call.code()).name == {"cancel": "CANCELLED", "deadline": "DEADLINE_EXCEEDED"}[
            how
        ]
        await servicer.cancelled.wait()


@pytest.mark.parametrize("protocol", ["protosocket", "grpc"])
async def test_details_of_a_status(protocol: str) -> None:
    info = ErrorInfo(reason="FULL", domain="test")

    class Rich(Servicer):
        async def Unary(self, request: bytes, context: Any) -> bytes:
            await context.abort_with_status(
                ps.rich_status(ps.StatusCode.RESOURCE_EXHAUSTED, "full", info)
            )

    async with serving("native", Rich(compat)) as (_, channels):
        with pytest.raises((ps.AioRpcError, real.aio.AioRpcError)) as caught:
            await channels[protocol].unary_unary("/test.Service/Unary")(b"")
    if protocol == "grpc":
        from grpc_status import rpc_status

        status = rpc_status.from_call(caught.value)
        unpacked = ErrorInfo()
        assert status.details[0].Unpack(unpacked)
        assert (status.message, unpacked) == ("full", info)
    else:
        assert ps.status_details(caught.value) == [info]


@pytest.mark.parametrize("protocol", ["protosocket", "grpc"])
@pytest.mark.parametrize("how", ["deadline", "cancel"])
async def test_calls_inside_of_a_handler_inherit(protocol: str, how: str) -> None:
    """Whichever way the call of the handler itself has come."""
    target = ""

    class Caller(Servicer):
        async def Unary(self, request: bytes, context: Any) -> bytes:
            if request != b"outer":
                return await super().Unary(request, context)
            async with ps.insecure_channel(target) as channel:
                inner = channel.unary_unary("/test.Service/Unary")
                if how == "deadline":
                    return await inner(b"time")
                left_behind = inner(b"wait")
                await self.started.wait()
                self.seen.append(left_behind)
                await asyncio.Event().wait()
            raise AssertionError("not to be reached")

    async with serving("native", Caller(compat)) as (servicer, channels):
        target = channels["protosocket"].target
        unary = channels[protocol].unary_unary("/test.Service/Unary")
        if how == "deadline":
            assert 90 < int(await unary(b"outer", timeout=100)) < 110
        else:
            call = unary(b"outer")
            await servicer.started.wait()
            call.cancel()
            await servicer.cancelled.wait()
            assert await servicer.seen[0].code() is ps.StatusCode.CANCELLED


@pytest.mark.parametrize("library", [real, compat], ids=["grpcio", "compat"])
async def test_interceptors_of_either_library(library: Any) -> None:
    seen = []

    class Noting(library.aio.ServerInterceptor):  # type: ignore[misc]  # a class of a variable
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            seen.append(details.method)
            return await continuation(details)

    async with serving("native", interceptors=[Noting()]) as (_, channels):
        for channel in channels.values():
            assert await channel.unary_unary("/test.Service/Unary")(b"a") == b"a"
    assert seen == ["/test.Service/Unary"] * 2


@pytest.mark.parametrize("written_for", ["grpcio", "compat"])
async def test_plain_functions_run_in_threads(written_for: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    class Plain(Servicer):
        def Unary(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]  # plain
            context.set_trailing_metadata((("key", "value"),))
            context.abort(self.grpc.StatusCode.ABORTED, "by a thread")
            raise AssertionError("not to be reached")

        def Replies(self, request: bytes, context: Any) -> Any:  # type: ignore[override]  # plain
            yield request

    library = real if written_for == "grpcio" else compat
    with ThreadPoolExecutor(2) as pool:
        async with serving(written_for, Plain(library), migration_thread_pool=pool) as (
            _,
            channels,
        ):
            for channel in channels.values():
                with pytest.raises((ps.AioRpcError, real.aio.AioRpcError)) as caught:
                    await channel.unary_unary("/test.Service/Unary")(b"")
                assert (caught.value.code().name, caught.value.details()) == (
                    "ABORTED",
                    "by a thread",
                )
                assert tuple(caught.value.trailing_metadata()) == (("key", "value"),)
                replies = channel.unary_stream("/test.Service/Replies")(b"a")
                assert [reply async for reply in replies] == [b"a"]


async def test_stop_lets_both_end_within_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    go_on = asyncio.Event()

    class Slow(Servicer):
        async def Unary(self, request: bytes, context: Any) -> bytes:
            self.seen.append(request)
            await go_on.wait()
            return request

    caplog.set_level(logging.ERROR)
    servicer = Slow(compat)
    server = DualServer(ps.server(), real.aio.server())
    server.add(servicer, SERVICE)
    own = server.protosocket.add_insecure_port("127.0.0.1:0")
    grpc_port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await server.wait_for_termination(timeout=0.01)
    async with (
        ps.insecure_channel(f"127.0.0.1:{own}") as channel,
        real.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as grpc_channel,
    ):
        calls = [each.unary_unary("/test.Service/Unary")(b"a") for each in (channel, grpc_channel)]
        await wait_until(lambda: len(servicer.seen) == 2)
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)
        go_on.set()
        assert [await call for call in calls] == [b"a", b"a"]
        await stopping
        assert not await server.wait_for_termination()
    assert not caplog.records


def test_a_grpc_server_of_another_event_loop_is_refused() -> None:
    async def make() -> DualServer:
        return DualServer(ps.server(), real.aio.server())

    server = asyncio.run(make())

    async def start() -> None:
        with pytest.raises(ps.UsageError, match="made in another event loop"):
            await server.start()

    asyncio.run(start())
