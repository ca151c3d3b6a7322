"""Channels and servers."""

from __future__ import annotations

import asyncio

from scenarios import Handlers, echo, grpc, outcome, running


async def states_of_a_channel():
    async with running(uu=echo) as channel:
        before = channel.get_state()
        await channel.channel_ready()
        ready = channel.get_state()
        waiting = asyncio.ensure_future(channel.wait_for_state_change(ready))
        await asyncio.sleep(0)
        changed = waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        return [before.name, ready.name, changed, list(grpc.ChannelConnectivity.READY.value)]


async def a_server_that_is_not_there():
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    async with channel:
        result = await outcome(channel.unary_unary("/s/uu")(b""))
        return result[:2]


async def wait_for_ready():
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    async with channel:
        result = await outcome(channel.unary_unary("/s/uu")(b"", wait_for_ready=True, timeout=0.3))
        return result[:2]


async def a_port_that_is_taken():
    options = (("grpc.so_reuseport", 0),)
    one, two = grpc.aio.server(options=options), grpc.aio.server(options=options)
    port = one.add_insecure_port("127.0.0.1:0")
    await one.start()
    try:
        two.add_insecure_port(f"127.0.0.1:{port}")
    except Exception as error:
        return type(error).__name__
    finally:
        await one.stop(None)


async def stop_is_idempotent():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    waited = await server.wait_for_termination(0.05)
    await server.stop(None)
    await server.stop(None)
    await server.stop(1)
    return [waited, await server.wait_for_termination()]


async def stop_with_grace_waits():
    release = asyncio.Event()
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await release.wait()
        return request

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=wait),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        await started.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0)
        release.set()
        result = await outcome(call)
        await stopping
        return result.decode()


async def stop_without_grace_aborts():
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await asyncio.Event().wait()

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(uu=wait),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/s/uu")(b"x")
        await started.wait()
        await server.stop(None)
        return (await outcome(call))[1]


async def most_concurrent_rpcs():
    started = asyncio.Event()

    async def wait(request, context):
        started.set()
        await asyncio.Event().wait()

    async with running(server_options={"maximum_concurrent_rpcs": 1}, uu=wait) as channel:
        first = channel.unary_unary("/s/uu")(b"")
        await started.wait()
        second = await outcome(channel.unary_unary("/s/uu")(b""))
        first.cancel()
        return [second[1], second[2].startswith("Concurrent RPC limit exceeded!")]


async def compression_is_accepted():
    async def handler(request, context):
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        return request

    async with running(
        server_options={"compression": grpc.Compression.Gzip},
        channel_options={"compression": grpc.Compression.Deflate},
        uu=handler,
    ) as channel:
        method = channel.unary_unary("/s/uu")
        return [
            len(await method(bytes(10_000))),
            len(await method(bytes(10_000), compression=grpc.Compression.Gzip)),
            [int(each) for each in list(grpc.Compression)[:3]],
        ]
