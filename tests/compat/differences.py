"""What a program sees otherwise of `protosocket_rpc.compat.grpc` than of grpcio.

Each function here gives one result with grpcio and another with ours; docs/migrating.md has a row
for it. ``run.py grpcio|switch differences.py`` prints the results as JSON, by name.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import grpc
from scenarios import Handlers, collect, echo, forever, join, outcome, running, three

from protosocket_rpc.testing import Link

PROGRAMS = Path(__file__).parent / "programs"


async def text_of_an_exception():
    async def handler(request, context):
        raise ValueError("a secret")

    async with running(uu=handler) as channel:
        code, details = (await outcome(channel.unary_unary("/s/uu")(b"")))[1:]
        return [code, "a secret" in details]


async def handler_that_raises_cancelled_error():
    async def handler(request, context):
        raise asyncio.CancelledError

    async with running(uu=handler) as channel:
        return (await outcome(channel.unary_unary("/s/uu")(b"", timeout=3)))[1]


async def request_iterator_that_raises():
    async def requests():
        yield b"a"
        raise ValueError("the caller's own")

    async with running(su=join) as channel:
        return await outcome(channel.stream_unary("/s/su")(requests()))


async def interceptor_of_several_kinds():
    seen = []

    class Several(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_unary(self, continuation, details, request):
            seen.append("unary")
            return await continuation(details, request)

        async def intercept_unary_stream(self, continuation, details, request):
            seen.append("stream")
            return await continuation(details, request)

    async with running(uu=echo, us=three, channel_options={"interceptors": [Several()]}) as channel:
        await channel.unary_unary("/s/uu")(b"")
        await collect(channel.unary_stream("/s/us")(b""))
        return seen


async def metadata_that_cannot_be_sent():
    async with running(uu=echo) as channel:
        return await outcome(_call(channel, metadata=(("Upper Case", "x"),)))


async def _call(channel, **options):
    return await channel.unary_unary("/s/uu")(b"", **options)


async def done_callbacks():
    async with running(uu=forever) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        called = []
        call.add_done_callback(called.append)
        call.cancel()
        return len(called)


async def wait_for_connection_of_a_unary_call():
    async with running(uu=forever) as channel:
        call = channel.unary_unary("/s/uu")(b"")
        waiting = asyncio.ensure_future(call.wait_for_connection())
        await asyncio.wait([waiting], timeout=1.5)
        call.cancel()
        connected = waiting.done()
        await asyncio.wait([waiting])
        waiting.cancelled() or waiting.exception()  # which nobody has to see
        return connected


async def stop_and_the_ends_of_handlers():
    started, ended, seen = asyncio.Event(), asyncio.Event(), []

    async def handler(request, context):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            seen.append("the handler has ended")
            ended.set()

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=handler),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/s/uu")(b"")
        await started.wait()
        await server.stop(None)
        seen.append("stopped")
        await outcome(call)
        await ended.wait()
        return seen


async def text_of_an_error():
    async with running() as channel:
        try:
            await channel.unary_unary("/s/uu")(b"")
        except grpc.aio.AioRpcError as error:
            return str(error).partition("\n")[0].partition(" (")[0]


async def code_of_a_context_that_has_none():
    codes = []

    async def handler(request, context):
        codes.append(context.code())
        return request

    async with running(uu=handler) as channel:
        await channel.unary_unary("/s/uu")(b"")
        return codes[0] and codes[0].name


async def target_without_a_port():
    try:
        await grpc.aio.insecure_channel("localhost").close()
    except ValueError:
        return "ValueError"


async def metadata_of_a_context():
    seen = []

    async def handler(request, context):
        metadata = context.invocation_metadata()
        seen.append(type(metadata).__name__)
        seen.append("user-agent" in dict(metadata))
        return request

    async with running(uu=handler) as channel:
        await channel.unary_unary("/s/uu")(b"")
        return seen


async def peer_of_ipv6():
    async def handler(request, context):
        return context.peer().rpartition(":")[0].encode()

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=handler),))
    port = server.add_insecure_port("[::1]:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
        peer = await channel.unary_unary("/s/uu")(b"")
    await server.stop(None)
    return peer.decode()


async def two_servers_on_one_port():
    first, second = grpc.aio.server(), grpc.aio.server()
    port = first.add_insecure_port("127.0.0.1:0")
    await first.start()
    try:
        second.add_insecure_port(f"127.0.0.1:{port}")
        return "shared"
    except RuntimeError:
        return "RuntimeError"
    finally:
        await first.stop(None)
        await second.stop(None)


async def method_called_as_another_kind():
    async with running(uu=echo) as channel:
        reply = await outcome(channel.stream_unary("/s/uu")(iter([b"request"])))
        return reply.decode() if isinstance(reply, bytes) else reply


async def name_server_of_a_target():
    try:
        await grpc.aio.insecure_channel("dns://127.0.0.1:53/localhost:1").close()
    except ValueError:
        return "ValueError"


async def deadline_of_a_call_in_a_handler():
    async def inner(request, context):
        return str(context.time_remaining() is not None).encode()

    async with running(uu=inner) as inner_channel:

        async def outer(request, context):
            return await inner_channel.unary_unary("/s/uu")(b"")

        async with running(uu=outer) as channel:
            return (await channel.unary_unary("/s/uu")(b"", timeout=30)).decode()


async def compression_of_a_single_reply():
    async def handler(request, context):
        context.set_compression(grpc.Compression.Gzip)
        return bytes(100_000)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=handler),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        Link(f"127.0.0.1:{port}", "127.0.0.1:0") as link,
        grpc.aio.insecure_channel(link.target) as channel,
    ):
        await channel.unary_unary("/s/uu")(b"")
    await server.stop(None)
    return "compressed" if link.to_client.bytes < 50_000 else "not compressed"


async def read_after_a_cancelled_iteration():
    async with running(us=three) as channel:
        call = channel.unary_stream("/s/us")(b"")
        async for _ in call:
            break
        call.cancel()
        return await outcome(call.read())


async def details_of_no_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            await channel.unary_unary("/s/uu")(b"")
        except grpc.aio.AioRpcError as error:
            return [error.code().name, type(error.__cause__).__name__]


async def blocked_event_loop():
    library = "switch" if grpc.__name__.startswith("protosocket_rpc") else "grpcio"
    server = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAMS / "run.py", library, PROGRAMS / "blocking.py", stdout=PIPE
    )
    port = int(await server.stdout.readline())
    options = [("grpc.keepalive_time_ms", 500), ("grpc.keepalive_timeout_ms", 1000)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        code = await channel.unary_unary("/s/uu")(b"4").code()
    server.kill()
    await server.wait()
    return code.name


async def blocking_api():
    try:
        grpc.insecure_channel("127.0.0.1:1").close()
    except grpc.aio.UsageError:
        return "UsageError"


async def main():
    results = {}
    for name, scenario in list(globals().items()):
        if (
            asyncio.iscoroutinefunction(scenario)
            and scenario.__module__ == __name__
            and not scenario.__code__.co_argcount
            and name != "main"
        ):
            results[name] = await asyncio.wait_for(scenario(), 20)
    print(json.dumps(results))


if __name__ == "__main__":
    asyncio.run(main())
