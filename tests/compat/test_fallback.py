"""A channel that tries protosocket and falls back to gRPC: against real servers of both."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc as real
import grpc.aio
import pytest
from compat.servicers import SERVICE, UNARY, Servicer, handlers_of, stream
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status as GoogleStatus
from grpc_status import rpc_status
from support import Certificates, free_port

import protosocket_rpc as ps
from protosocket_rpc.compat import grpc as compat
from protosocket_rpc.compat.fallback import FallbackChannel
from protosocket_rpc.compat.grpc_status import rpc_status as compat_status


@asynccontextmanager
async def protosocket_server(port: int = 0) -> AsyncIterator[int]:
    server = ps.server()
    server.add(Servicer(compat), SERVICE)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    async with server:
        yield port


@asynccontextmanager
async def grpc_server(credentials: Any = None) -> AsyncIterator[tuple[int, Servicer]]:
    server = real.aio.server()
    servicer = Servicer(real)
    server.add_registered_method_handlers("test.Service", handlers_of(servicer, real))
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield port, servicer
    await server.stop(None)


@asynccontextmanager
async def falling_back(
    port: int, servicer: list[Servicer] | None = None, **options: Any
) -> AsyncIterator[FallbackChannel]:
    """A channel to a port of protosocket, and to a gRPC server that is there."""
    options.setdefault("connect_timeout", 30.0)  # what answers does, however busy the machine is
    async with grpc_server() as (grpc_port, grpc_servicer):
        if servicer is not None:
            servicer.append(grpc_servicer)
        grpc_channel = real.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        async with FallbackChannel(f"127.0.0.1:{port}", grpc_channel, **options) as channel:
            yield channel


async def check_all_kinds(channel: ps.Channel) -> None:
    assert await channel.method(UNARY)(b"n") == b"n"  # as generated stubs do
    assert await channel.unary_unary("/test.Service/Unary")(b"a") == b"a"
    replies = channel.unary_stream("/test.Service/Replies")(b"b")
    assert [reply async for reply in replies] == [b"b"] * 3
    read = channel.unary_stream("/test.Service/Replies")(b"b")
    assert [await read.read() for _ in range(4)] == [b"b", b"b", b"b", ps.EOF]
    requests = channel.stream_unary("/test.Service/Requests")(stream(b"c", b"d"))
    assert await requests == b"cd"
    both = channel.stream_stream("/test.Service/Both")
    assert [reply async for reply in both(stream(b"e", b"f"))] == [b"e", b"f"]
    written = both()
    for message in (b"g", b"h"):
        await written.write(message)
        assert await written.read() == message
    await written.done_writing()
    assert await written.read() is ps.EOF


async def protocol_of(channel: ps.Channel) -> str:
    """What a call goes over, by what it says of itself."""
    call = channel.unary_unary("/test.Service/Unary")(b"a")
    assert await call == b"a"
    return "grpc" if call.debug_error_string() == "over gRPC" else "protosocket"


async def test_over_protosocket_if_it_answers() -> None:
    async with protosocket_server() as port, falling_back(port) as channel:
        assert await channel.answers()
        assert await protocol_of(channel) == "protosocket"
        await check_all_kinds(channel)


async def test_all_kinds_before_it_is_known() -> None:
    async with protosocket_server() as port:
        for _ in range(3):
            async with falling_back(port) as channel:
                await check_all_kinds(channel)
                assert await channel.answers()


async def test_over_grpc_if_nothing_listens() -> None:
    async with falling_back(free_port()) as channel:
        await check_all_kinds(channel)
        assert not await channel.answers()
        assert await protocol_of(channel) == "grpc"


async def test_over_grpc_if_what_answers_is_a_grpc_server() -> None:
    async with grpc_server() as (port, _), falling_back(port) as channel:
        await check_all_kinds(channel)
        assert not await channel.answers()


async def test_over_grpc_if_what_answers_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with falling_back(port, connect_timeout=0.05) as channel:
            await check_all_kinds(channel)
            assert not await channel.answers()


async def test_deadline_while_it_is_not_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with falling_back(port, connect_timeout=0.3) as channel:
            unary = channel.unary_unary("/test.Service/Unary")
            with pytest.raises(ps.AioRpcError) as caught:
                await unary(b"", timeout=0.01)
            assert caught.value.code() is ps.StatusCode.DEADLINE_EXCEEDED
            # The time that such calls have waited counts: they cannot wait for ever.
            assert await unary(b"a", timeout=30) == b"a"
            assert not await channel.answers()


async def test_protosocket_is_tried_again() -> None:
    port = free_port()
    async with falling_back(port, retry_after=0.0) as channel:
        assert await protocol_of(channel) == "grpc"
        async with protosocket_server(port):
            while await protocol_of(channel) == "grpc":  # noqa: ASYNC110  # each call may try
                await asyncio.sleep(0.01)
            await check_all_kinds(channel)
        while await protocol_of(channel) == "protosocket":  # noqa: ASYNC110  # is noticed soon
            await asyncio.sleep(0.01)


async def test_a_failure_is_remembered() -> None:
    port = free_port()
    async with falling_back(port, retry_after=3600.0) as channel:
        assert await protocol_of(channel) == "grpc"
        async with protosocket_server(port):
            for _ in range(10):
                assert await protocol_of(channel) == "grpc"
        assert channel.get_state() is not ps.ChannelConnectivity.READY


async def test_what_has_failed_is_not_tried_again_on_the_quiet() -> None:
    attempts = 0

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        at_once = ps.ClientConnectivity(first_backoff=0.001)
        async with falling_back(port, retry_after=3600.0, connectivity=at_once) as channel:
            for _ in range(10):
                assert await protocol_of(channel) == "grpc"
    assert attempts == 1


async def test_errors_are_of_this_package() -> None:
    async with falling_back(free_port()) as channel:
        unary = channel.unary_unary("/test.Service/Unary")
        with pytest.raises(ps.AioRpcError) as caught:
            await unary(b"abort")
        error = caught.value
        assert (error.code(), error.details()) == (ps.StatusCode.NOT_FOUND, "no such thing")
        assert error.trailing_metadata() == ps.Metadata(("left", "1"), ("at-bin", b"\x00"))
        call = unary(b"metadata", metadata=(("key", "value"),))
        assert await call == b"value"
        assert await call.initial_metadata() == ps.Metadata(("first", "a"))
        assert (await call.trailing_metadata())["last-bin"] == b"\xff"
        assert await call.code() is ps.StatusCode.OK
        with pytest.raises(ps.AioRpcError) as caught:
            await channel.unary_unary("/test.Service/Nothing")(b"")
        assert caught.value.code() is ps.StatusCode.UNIMPLEMENTED


async def test_details_of_a_status_over_grpc() -> None:
    info = ErrorInfo(reason="FULL", domain="test")
    packed = AnyMessage()
    packed.Pack(info)
    status = rpc_status.to_status(GoogleStatus(code=8, message="full", details=[packed]))

    async def handler(request: bytes, context: Any) -> None:
        await context.abort_with_status(status)

    server = real.aio.server()
    handlers = {"Unary": real.unary_unary_rpc_method_handler(handler)}
    server.add_registered_method_handlers("test.Service", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    grpc_channel = real.aio.insecure_channel(f"127.0.0.1:{port}")
    async with FallbackChannel(f"127.0.0.1:{free_port()}", grpc_channel) as channel:
        call = channel.unary_unary("/test.Service/Unary")(b"")
        with pytest.raises(ps.AioRpcError) as caught:
            await call
        assert ps.status_details(caught.value) == [info]
        google = await compat_status.aio.from_call(call)
        assert google == compat_status.from_call(caught.value)
        assert google is not None
        assert google.message == "full"
    await server.stop(None)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_ends_over_grpc(how: str) -> None:
    servicers: list[Servicer] = []
    async with falling_back(free_port(), servicers) as channel:
        unary = channel.unary_unary("/test.Service/Unary")
        assert await unary(b"connected") == b"connected"
        call = unary(b"wait", timeout=1.0 if how == "deadline" else None)
        await servicers[0].started.wait()
        if how == "cancel":
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await call.code() is ps.StatusCode.CANCELLED
        else:
            assert await call.code() is ps.StatusCode.DEADLINE_EXCEEDED
        await servicers[0].cancelled.wait()


async def test_calls_of_a_handler_inherit_over_grpc() -> None:
    servicers: list[Servicer] = []
    server = ps.server()
    async with falling_back(free_port(), servicers) as channel:

        async def time(request: bytes, context: Any) -> bytes:
            reply: bytes = await channel.unary_unary("/test.Service/Unary")(request)
            return reply

        server.add_registered_method_handlers(
            "outer.Service", {"Time": ps.unary_unary_rpc_method_handler(time)}
        )
        port = server.add_insecure_port("127.0.0.1:0")
        async with server, ps.insecure_channel(f"127.0.0.1:{port}") as outer:
            method = outer.unary_unary("/outer.Service/Time")
            assert 90 < int(await method(b"time", timeout=100)) < 110
            assert await method(b"time") == b"none"
            call = method(b"wait")
            await servicers[0].started.wait()
            call.cancel()
            await servicers[0].cancelled.wait()


@pytest.mark.parametrize("answers", [True, False])
async def test_interceptors_see_the_calls_of_either_way(answers: bool) -> None:
    seen: list[Any] = []

    async def noting(call: Any, next: Any) -> AsyncIterator[Any]:
        async for reply in next(call):
            yield reply
        seen.append((call.method, call.code))

    class Noting(ps.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            call = await continuation(details, request)
            seen.append(await call.code())
            return call

    async with protosocket_server() as port:
        where = port if answers else free_port()
        async with falling_back(where, interceptors=[noting, Noting()]) as channel:
            await check_all_kinds(channel)
    ok = ps.StatusCode.OK
    assert seen[:2] == [ok, ("/test.Service/Unary", ok)]


async def test_credentials_and_compression_of_a_call_over_grpc(certificates: Certificates) -> None:
    async def plugin(context: ps.AuthMetadataContext) -> Any:
        return (("key", f"{context.method_name} of a plugin"),)

    server_credentials = real.ssl_server_credentials(
        [(certificates.server_key.read_bytes(), certificates.server_chain.read_bytes())]
    )
    channel_credentials = real.ssl_channel_credentials(certificates.authority.read_bytes())
    async with grpc_server(server_credentials) as (port, _):
        grpc_channel = real.aio.secure_channel(f"localhost:{port}", channel_credentials)
        async with FallbackChannel(f"127.0.0.1:{free_port()}", grpc_channel) as channel:
            unary = channel.unary_unary("/test.Service/Unary")
            for compression in ps.Compression:
                call = unary(
                    b"metadata",
                    credentials=ps.metadata_call_credentials(plugin),
                    compression=compression,
                )
                assert await call == b"Unary of a plugin"


async def test_closing_closes_both() -> None:
    async with falling_back(free_port()) as channel:
        assert await protocol_of(channel) == "grpc"
    with pytest.raises((ps.UsageError, real.aio.UsageError)):
        await channel.unary_unary("/test.Service/Unary")(b"")
    assert channel.grpc.get_state() is real.ChannelConnectivity.SHUTDOWN
    await channel.close()  # which does nothing


def test_each_event_loop_has_a_grpc_channel_of_its_own() -> None:
    async def use(channel: FallbackChannel, ports: list[int]) -> str:
        async with grpc_server() as (port, _):
            ports.append(port)
            return await protocol_of(channel)

    ports: list[int] = []
    made: list[Any] = []

    def make() -> Any:
        made.append(real.aio.insecure_channel(f"127.0.0.1:{ports[-1]}"))
        return made[-1]

    channel = FallbackChannel(f"127.0.0.1:{free_port()}", make)  # no loop is running
    assert [asyncio.run(use(channel, ports)) for _ in range(2)] == ["grpc", "grpc"]
    assert len(made) == 2
    for each in made:
        assert each.get_state() is real.ChannelConnectivity.SHUTDOWN
    asyncio.run(channel.close())


def test_a_grpc_channel_of_another_event_loop_is_refused() -> None:
    async def make() -> FallbackChannel:
        return FallbackChannel("127.0.0.1:1", real.aio.insecure_channel("127.0.0.1:1"))

    channel = asyncio.run(make())

    async def use() -> None:
        with pytest.raises(ps.UsageError, match="a function that makes one"):
            await channel.unary_unary("/test.Service/Unary")(b"")

    asyncio.run(use())
