"""The 14 base cases. Each asserts what the description says, and returns what it has observed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from tests.grpc_interop.calling import Client, failure

LARGE_REQUEST, LARGE_REPLY = 271828, 314159
REQUESTS = [27182, 8, 1828, 45904]
REPLIES = [31415, 9, 2653, 58979]
METADATA = (
    ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
    ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
)
UNKNOWN = 2
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def large_request(client: Client, **fields: Any) -> Any:
    pb = client.library.pb
    payload = pb.Payload(body=bytes(LARGE_REQUEST))
    return pb.SimpleRequest(response_size=LARGE_REPLY, payload=payload, **fields)


def duplex_request(client: Client, sent: int, *wanted: int) -> Any:
    pb = client.library.pb
    return pb.StreamingOutputCallRequest(
        response_parameters=[pb.ResponseParameters(size=size) for size in wanted],
        payload=pb.Payload(body=bytes(sent)),
    )


def size_of(reply: Any, size: int) -> int:
    assert hasattr(reply, "payload"), reply  # such as EOF
    assert reply.payload.body == bytes(size)
    return size


async def ended(client: Client, call: Any) -> list[Any]:
    """That a stream has ended well, with nothing more in it."""
    assert await call.read() is client.library.aio.EOF
    assert await call.code() is client.library.grpc.StatusCode.OK
    return ["OK", await call.details()]


async def cancelled(call: Any, outcome: Awaitable[Any]) -> list[Any]:
    """How a call looks whose outcome is that it was cancelled."""
    with suppress(asyncio.CancelledError):
        raise AssertionError(f"not cancelled: {await outcome!r}")
    assert (await call.code()).name == "CANCELLED"
    return ["CANCELLED", await call.details()]


async def unimplemented(client: Client, stub: Any) -> Any:
    # The message is not compared: grpcio's own has the text of the handler's exception.
    code, _ = await failure(client, stub.UnimplementedCall(client.library.pb.Empty()))
    assert code == "UNIMPLEMENTED"
    return code


async def empty_unary(client: Client) -> Any:
    reply = await client.stub.EmptyCall(client.library.pb.Empty())
    assert reply == client.library.pb.Empty()
    return len(reply.SerializeToString())


async def large_unary(client: Client) -> Any:
    return size_of(await client.stub.UnaryCall(large_request(client)), LARGE_REPLY)


async def client_streaming(client: Client) -> Any:
    pb = client.library.pb
    payloads = [pb.Payload(body=bytes(size)) for size in REQUESTS]
    requests = [pb.StreamingInputCallRequest(payload=payload) for payload in payloads]
    reply = await client.stub.StreamingInputCall(iter(requests))
    assert reply.aggregated_payload_size == 74922
    return reply.aggregated_payload_size


async def server_streaming(client: Client) -> Any:
    call = client.stub.StreamingOutputCall(duplex_request(client, 0, *REPLIES))
    sizes = [size_of(await call.read(), size) for size in REPLIES]
    return [sizes, await ended(client, call)]


async def ping_pong(client: Client) -> Any:
    call, sizes = client.stub.FullDuplexCall(), []
    for sent, wanted in zip(REQUESTS, REPLIES, strict=True):
        await call.write(duplex_request(client, sent, wanted))
        sizes.append(size_of(await call.read(), wanted))
    await call.done_writing()
    return [sizes, await ended(client, call)]


async def empty_stream(client: Client) -> Any:
    call = client.stub.FullDuplexCall()
    await call.done_writing()
    return await ended(client, call)


async def custom_metadata(client: Client) -> Any:
    unary = client.stub.UnaryCall(large_request(client), metadata=METADATA)
    size_of(await unary, LARGE_REPLY)
    duplex = client.stub.FullDuplexCall(metadata=METADATA)
    await duplex.write(duplex_request(client, LARGE_REQUEST, LARGE_REPLY))
    await duplex.done_writing()
    size_of(await duplex.read(), LARGE_REPLY)
    await ended(client, duplex)
    (initial, value), (trailing, binary) = METADATA
    observed = []
    for call in (unary, duplex):
        assert (await call.initial_metadata()).get_all(initial) == [value]
        assert (await call.trailing_metadata()).get_all(trailing) == [binary]
        observed.append([len(await call.initial_metadata()), len(await call.trailing_metadata())])
    return observed


async def status_code_and_message(client: Client) -> Any:
    pb = client.library.pb
    status = pb.EchoStatus(code=UNKNOWN, message="test status message")
    unary = client.stub.UnaryCall(pb.SimpleRequest(response_status=status))
    duplex = client.stub.FullDuplexCall()
    await duplex.write(pb.StreamingOutputCallRequest(response_status=status))
    await duplex.done_writing()
    observed = [await failure(client, unary), await failure(client, duplex.read())]
    assert observed == [["UNKNOWN", "test status message"]] * 2
    return observed


async def special_status_message(client: Client) -> Any:
    pb = client.library.pb
    status = pb.EchoStatus(code=UNKNOWN, message=SPECIAL)
    call = client.stub.UnaryCall(pb.SimpleRequest(response_status=status))
    observed = await failure(client, call)
    assert observed == ["UNKNOWN", SPECIAL]
    return observed


async def unimplemented_method(client: Client) -> Any:
    return await unimplemented(client, client.stub)


async def unimplemented_service(client: Client) -> Any:
    stub = client.library.services.UnimplementedServiceStub(client.channel)
    return await unimplemented(client, stub)


async def cancel_after_begin(client: Client) -> Any:
    call = client.stub.StreamingInputCall()
    call.cancel()
    return await cancelled(call, call)


async def cancel_after_first_response(client: Client) -> Any:
    call = client.stub.FullDuplexCall()
    await call.write(duplex_request(client, REQUESTS[0], REPLIES[0]))
    size_of(await call.read(), REPLIES[0])
    call.cancel()
    return await cancelled(call, call.read())


async def timeout_on_sleeping_server(client: Client) -> Any:
    call = client.stub.FullDuplexCall(timeout=client.library.shortest_timeout)
    # It may have ended before the request is written.
    with suppress(asyncio.InvalidStateError, client.library.aio.AioRpcError):
        await call.write(duplex_request(client, REQUESTS[0]))
    assert (await call.code()).name == "DEADLINE_EXCEEDED"
    return "DEADLINE_EXCEEDED"


CASES = [
    *(empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream),
    *(custom_metadata, status_code_and_message, special_status_message, unimplemented_method),
    *(unimplemented_service, cancel_after_begin, cancel_after_first_response),
    timeout_on_sleeping_server,
]
