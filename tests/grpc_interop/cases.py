"""The base cases of gRPC's interop test description: ``cases.py TARGET`` prints results as JSON.

Written as users of ``grpc.aio`` write. It serves at the target, and calls it; with TLS if three PEM
files follow: of the authority, and the server's chain and key.
"""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import interop_pb2 as pb
import interop_pb2_grpc as services

SIZES = [(27182, 31415), (8, 9), (1828, 2653), (45904, 58979)]
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"


def payload(size):
    return pb.Payload(body=bytes(size))


async def echo_metadata(context):
    metadata = dict(context.invocation_metadata())
    if "x-grpc-test-echo-initial" in metadata:
        first = metadata["x-grpc-test-echo-initial"]
        await context.send_initial_metadata((("x-grpc-test-echo-initial", first),))
    if "x-grpc-test-echo-trailing-bin" in metadata:
        last = metadata["x-grpc-test-echo-trailing-bin"]
        context.set_trailing_metadata((("x-grpc-test-echo-trailing-bin", last),))


async def echo_status(request, context):
    if request.HasField("response_status"):
        codes = {code.value[0]: code for code in grpc.StatusCode}
        status = request.response_status
        await context.abort(codes[status.code], status.message)


class Servicer(services.TestServiceServicer):
    async def EmptyCall(self, request, context):
        return pb.Empty()

    async def UnaryCall(self, request, context):
        await echo_metadata(context)
        await echo_status(request, context)
        return pb.SimpleResponse(payload=payload(request.response_size))

    async def StreamingOutputCall(self, request, context):
        for wanted in request.response_parameters:
            yield pb.StreamingOutputCallResponse(payload=payload(wanted.size))

    async def StreamingInputCall(self, request_iterator, context):
        size = 0
        async for request in request_iterator:
            size += len(request.payload.body)
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(self, request_iterator, context):
        await echo_metadata(context)
        async for request in request_iterator:
            await echo_status(request, context)
            for wanted in request.response_parameters:
                yield pb.StreamingOutputCallResponse(payload=payload(wanted.size))


def duplex_request(sent, wanted):
    return pb.StreamingOutputCallRequest(
        response_parameters=[pb.ResponseParameters(size=wanted)], payload=payload(sent)
    )


async def failure(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return [error.code().name, error.details()]
    except asyncio.CancelledError:
        return "cancelled"


async def empty_unary(stub):
    return len((await stub.EmptyCall(pb.Empty())).SerializeToString())


async def large_unary(stub):
    request = pb.SimpleRequest(response_size=314159, payload=payload(271828))
    return len((await stub.UnaryCall(request)).payload.body)


async def client_streaming(stub):
    requests = [pb.StreamingInputCallRequest(payload=payload(sent)) for sent, _ in SIZES]
    return (await stub.StreamingInputCall(iter(requests))).aggregated_payload_size


async def server_streaming(stub):
    wanted = [pb.ResponseParameters(size=size) for _, size in SIZES]
    call = stub.StreamingOutputCall(pb.StreamingOutputCallRequest(response_parameters=wanted))
    return [len(reply.payload.body) async for reply in call]


async def ping_pong(stub):
    call, sizes = stub.FullDuplexCall(), []
    for sent, wanted in SIZES:
        await call.write(duplex_request(sent, wanted))
        sizes.append(len((await call.read()).payload.body))
    await call.done_writing()
    return [sizes, await call.read() is grpc.aio.EOF, (await call.code()).name]


async def empty_stream(stub):
    call = stub.FullDuplexCall()
    await call.done_writing()
    return [await call.read() is grpc.aio.EOF, (await call.code()).name]


async def custom_metadata(stub):
    metadata = (
        ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
        ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
    )
    unary = stub.UnaryCall(pb.SimpleRequest(response_size=1), metadata=metadata)
    await unary
    duplex = stub.FullDuplexCall(metadata=metadata)
    await duplex.write(duplex_request(1, 1))
    await duplex.read()
    await duplex.done_writing()
    await duplex.code()
    return [
        [
            (await call.initial_metadata())["x-grpc-test-echo-initial"],
            (await call.trailing_metadata())["x-grpc-test-echo-trailing-bin"].hex(),
        ]
        for call in (unary, duplex)
    ]


async def status_code_and_message(stub):
    status = pb.EchoStatus(code=2, message="test status message")
    unary = await failure(stub.UnaryCall(pb.SimpleRequest(response_status=status)))
    call = stub.FullDuplexCall()
    await call.write(pb.StreamingOutputCallRequest(response_status=status))
    await call.done_writing()
    return [unary, await failure(call.read())]


async def special_status_message(stub):
    status = pb.EchoStatus(code=2, message=SPECIAL)
    return await failure(stub.UnaryCall(pb.SimpleRequest(response_status=status)))


async def unimplemented_method(stub):
    return (await failure(stub.UnimplementedCall(pb.Empty())))[0]


async def unimplemented_service(stub):
    return (await failure(stub.other.UnimplementedCall(pb.Empty())))[0]


async def cancel_after_begin(stub):
    call = stub.StreamingInputCall()
    call.cancel()
    return [await failure(call), (await call.code()).name]


async def cancel_after_first_response(stub):
    call = stub.FullDuplexCall()
    await call.write(duplex_request(*SIZES[0]))
    size = len((await call.read()).payload.body)
    call.cancel()
    return [size, await failure(call.read()), (await call.code()).name]


async def timeout_on_sleeping_server(stub):
    call = stub.FullDuplexCall(timeout=0.001)
    return [await failure(call.read())][0][0]


CASES = [
    *(empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream),
    *(custom_metadata, status_code_and_message, special_status_message, unimplemented_method),
    *(unimplemented_service, cancel_after_begin, cancel_after_first_response),
    timeout_on_sleeping_server,
]


async def main(target, *files):
    server = grpc.aio.server()
    services.add_TestServiceServicer_to_server(Servicer(), server)
    if files:
        authority, chain, key = files
        port = server.add_secure_port(target, grpc.ssl_server_credentials([(key, chain)]))
        credentials = grpc.ssl_channel_credentials(authority)
        made = grpc.aio.secure_channel(target.replace(":0", f":{port}"), credentials)
    else:
        port = server.add_insecure_port(target)
        made = grpc.aio.insecure_channel(target.replace(":0", f":{port}"))
    await server.start()
    async with made as channel:
        stub = services.TestServiceStub(channel)
        stub.other = services.UnimplementedServiceStub(channel)
        print(json.dumps({case.__name__: await case(stub) for case in CASES}))
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *(Path(file).read_bytes() for file in sys.argv[2:])))
