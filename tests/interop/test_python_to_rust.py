"""Python clients, and servers that are Rust programs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from interop.flavours import FLAVOURS, LARGEST, OWN, SERVICE, Calls, Flavour, ServiceCalls
from interop.generated.exercise_pb2 import Blob, Failure, Nothing, Number, Range
from interop.programs import rust_server
from support import Certificates, RawPeer, Recorder

import protosocket_rpc as ps
from protosocket_rpc import raw
from protosocket_rpc.raw.codecs import ProtobufCodec

each = pytest.mark.parametrize("flavour", FLAVOURS, ids=str)


async def failure(awaitable: Any) -> Exception:
    """What an awaitable raises."""
    try:
        result = await awaitable
    except Exception as error:
        return error
    raise AssertionError(f"it gives {result!r}")


async def numbers(calls: Calls, count: int) -> list[int]:
    return [number async for number in calls.count(count)]


async def hang(calls: Calls, count: int) -> list[asyncio.Future[None]]:
    """RPCs that hang on the server by now."""
    await calls.echo(b"")  # the connection is there
    hanging = [asyncio.ensure_future(calls.hang()) for _ in range(count)]
    for task in hanging:  # a test that fails may not look at how they end
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
    # Begins after those, so that they have arrived when it is answered.
    await asyncio.ensure_future(calls.echo(b""))
    return hanging


@each
async def test_a_unary_call(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        assert await calls.echo(b"hello") == b"hello"
        assert await calls.echo(b"") == b""


@each
async def test_thousands_in_flight_out_of_order(flavour: Flavour) -> None:
    answered: list[int] = []

    async def gather(calls: Calls, number: int) -> None:
        assert await calls.gather(number, 3000) == number
        answered.append(number)

    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        await calls.echo(b"")  # the connection is there
        await asyncio.gather(*(gather(calls, number) for number in range(3000)))
    assert sorted(answered) == list(range(3000))
    assert answered[0] == 2999  # the one that the others waited for


@each
async def test_a_stream_to_its_end(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        assert await numbers(calls, 10_000) == list(range(10_000))
        assert await numbers(calls, 0) == []


@each
async def test_many_streams_at_a_time(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        streams = await asyncio.gather(*(numbers(calls, count) for count in range(200)))
    assert streams == [list(range(count)) for count in range(200)]


@each
async def test_an_abandoned_stream_ends_on_the_server(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        async with aclosing(calls.count(3, then_hang=True)) as stream:
            assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
        assert await calls.ended(1) == 1


@each
async def test_an_endless_stream_is_abandoned(flavour: Flavour) -> None:
    """It fills every buffer between here and there before it is."""
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        async with aclosing(calls.count(1 << 60)) as stream:
            assert [await anext(stream) for _ in range(10)] == list(range(10))
        assert await calls.echo(b"next") == b"next"


@each
async def test_a_stream_cut_by_the_death_of_its_server(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        async with aclosing(calls.count(3, then_hang=True)) as stream:
            assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
            await server.kill()
            error = await failure(anext(stream))
        assert flavour.lost(error), repr(error)


@each
async def test_a_cancelled_call_ends_on_the_server(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        hanging = await hang(calls, 50)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)
        assert all(task.cancelled() for task in hanging)
        assert await calls.ended(50) == 50


@each
async def test_the_server_refuses(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        error = await failure(calls.refuse())
        assert flavour.refused(error), repr(error)
        assert await calls.echo(b"next") == b"next"


@each
async def test_messages_up_to_the_limit(flavour: Flavour) -> None:
    largest = b"x" * (LARGEST - flavour.overhead)
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        assert await calls.echo(largest) == largest
        echoes = await asyncio.gather(calls.echo(largest), calls.echo(b"small"))
        assert echoes == [largest, b"small"]


@each
async def test_a_request_above_the_server_s_limit(flavour: Flavour) -> None:
    """Rust closes the connection; the next call has a new one."""
    async with (
        rust_server(flavour.program, "--max-buffer", "65536") as server,
        flavour.connect(server.target) as calls,
    ):
        await calls.echo(b"")  # a channel that never heard of its server would give it some time
        error = await failure(calls.echo(b"x" * 100_000))
        assert flavour.lost(error), repr(error)
        assert await calls.echo(b"next") == b"next"


async def test_a_reply_above_the_client_s_limit_of_a_service() -> None:
    """Only its call ends."""
    async with (
        rust_server("service") as server,
        SERVICE.connect(server.target, largest=1000) as calls,
    ):
        (hanging,) = await hang(calls, 1)
        for size in (1001, 100_000):
            error = await failure(calls.echo(b"x" * size))
            assert isinstance(error, ps.AioRpcError)
            assert error.code() is ps.StatusCode.RESOURCE_EXHAUSTED
        assert await calls.echo(b"next") == b"next"
        assert not hanging.done()
        hanging.cancel()
        await asyncio.wait([hanging])


@pytest.mark.parametrize("flavour", FLAVOURS[1:], ids=str)
async def test_a_response_above_the_client_s_limit(flavour: Flavour) -> None:
    """Nobody can tell whose it is: the connection ends."""
    async with (
        rust_server(flavour.program) as server,
        flavour.connect(server.target, largest=1000) as calls,
    ):
        error = await failure(calls.echo(b"x" * 2000))
        assert isinstance(error, ps.ProtocolError)
        assert "max_message_size is 1000" in str(error)
        assert await calls.echo(b"next") == b"next"


async def test_malformed_frames_from_the_server() -> None:
    async with (
        rust_server("service", "--liar") as server,
        SERVICE.connect(server.target) as calls,
    ):
        error = await failure(calls.echo(b""))
        assert SERVICE.lost(error), repr(error)


async def test_malformed_messages_from_the_server() -> None:
    async with rust_server("own", "--liar") as server, OWN.connect(server.target) as calls:
        error = await failure(calls.echo(b""))
        assert isinstance(error, ps.ProtocolError)
        assert "these 5 bytes are no interop.v1.Response" in str(error)


@each
async def test_malformed_bytes_end_only_their_connection(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as server, flavour.connect(server.target) as calls:
        (hanging,) = await hang(calls, 1)
        with await RawPeer.connect(server.target) as peer:
            await peer.send(
                b"\xce\x00\x00\x00\x03abc"
                if flavour.program == "messagepack"
                else b"\x03\x1a\xff\xff"
            )
            await peer.read_all()  # what comes before the end, which is here
        assert await calls.echo(b"still there") == b"still there"
        assert not hanging.done()
        hanging.cancel()
        await asyncio.wait([hanging])


@each
async def test_reconnecting_after_the_server_was_killed(flavour: Flavour) -> None:
    async with rust_server(flavour.program) as first, flavour.connect(first.target) as calls:
        hanging = await hang(calls, 100)
        await first.kill()
        for task in hanging:
            error = await failure(task)
            assert flavour.lost(error), repr(error)
        async with rust_server(flavour.program, target=first.target):
            if isinstance(calls, ServiceCalls):
                await calls.channel.channel_ready()
            assert await calls.echo(b"again") == b"again"


@each
async def test_tls(flavour: Flavour, certificates: Certificates) -> None:
    async with (
        rust_server(flavour.program, "--tls", certificates.authority.parent) as server,
        flavour.connect(server.target, ssl=certificates.client_context()) as calls,
    ):
        assert await calls.echo(b"secret") == b"secret"
        assert await numbers(calls, 1000) == list(range(1000))
        large = b"x" * 1_000_000
        assert await calls.echo(large) == large


async def test_raw_messages() -> None:
    recorder = Recorder()
    async with rust_server("raw") as server:
        connection = await raw.connect(server.target, ProtobufCodec(Blob), recorder)
        for size in range(1000):
            connection.send(Blob(data=b"x" * size))
        echoed = await recorder.received(1000)
        assert [len(message.data) for message in echoed] == list(range(1000))
        assert set(b"".join(message.data for message in echoed)) == {ord("x")}
        connection.close()
        await connection.wait_closed()


# -- services only ---------------------------------------------------------------------------


async def test_errors_are_statuses() -> None:
    async with rust_server("service") as server, SERVICE.connect(server.target) as calls:
        stub = calls.stub  # type: ignore[attr-defined]  # it is a ServiceCalls
        with pytest.raises(ps.AioRpcError) as raised:
            await stub.Fail(Failure(code=5, message="no such exercise"))
        assert raised.value.code() is ps.StatusCode.NOT_FOUND
        assert raised.value.details() == "no such exercise"
        call = stub.CountAndFail(Failure(code=10, message="changed"))
        assert (await anext(aiter(call))).value == 0
        with pytest.raises(ps.AioRpcError) as raised:
            await anext(aiter(call))
        assert raised.value.code() is ps.StatusCode.ABORTED


async def test_metadata_and_deadline_arrive() -> None:
    async with rust_server("service") as server, SERVICE.connect(server.target) as calls:
        stub = calls.stub  # type: ignore[attr-defined]  # it is a ServiceCalls
        call = stub.Overhear(Nothing(), timeout=60, metadata=(("user", "ada"), ("n", "1")))
        overheard = await call
        assert list(overheard.metadata) == ["user=ada", "n=1"]
        assert overheard.has_deadline
        assert not (await stub.Overhear(Nothing())).has_deadline
        # A Rust handler can send neither: there are none, which takes no time to find out.
        assert not await call.initial_metadata()
        assert not await call.trailing_metadata()


async def test_a_deadline_that_the_server_does_not_know_of() -> None:
    """The client keeps it, and the server's handler ends, too."""
    async with rust_server("service") as server, SERVICE.connect(server.target) as calls:
        stub = calls.stub  # type: ignore[attr-defined]  # it is a ServiceCalls
        started = False

        async def stream(timeout: float) -> None:
            nonlocal started
            async for _ in stub.Count(Range(count=1, then_hang=True), timeout=timeout):
                started = True

        for timeout in (0.05, 0.5, 5):  # until the handler has started within it
            error = await failure(stream(timeout))
            assert isinstance(error, ps.AioRpcError)
            assert error.code() is ps.StatusCode.DEADLINE_EXCEEDED
            if started:
                break
        assert await calls.ended(1) == 1


async def test_request_streams_fail_with_a_clear_error() -> None:
    async with rust_server("service") as server, SERVICE.connect(server.target) as calls:
        stub = calls.stub  # type: ignore[attr-defined]  # it is a ServiceCalls
        endless = (Number(value=number) for number in iter(int, 1))
        for requests in ([Number(value=1)], endless):
            with pytest.raises(ps.AioRpcError) as raised:
                await stub.Sum(requests)
            assert raised.value.code() is ps.StatusCode.UNIMPLEMENTED
            with pytest.raises(ps.AioRpcError) as raised:
                await anext(aiter(stub.Chat(requests)))
            assert raised.value.code() is ps.StatusCode.UNIMPLEMENTED
        assert await calls.echo(b"next") == b"next"
