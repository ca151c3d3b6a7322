"""What a program sees of ``grpc.aio``: each function here, once with grpcio and once with ours.

``python -m scenarios grpcio|compat``, from the folder above, prints the results as JSON, by name.
Written as users of ``grpc.aio`` write, without types.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

if sys.argv[1:] == ["compat"]:
    from protosocket_rpc.compat import grpc
else:
    import grpc  # type: ignore[no-redef]  # one of the two

tenant = contextvars.ContextVar("tenant", default="nobody")


class Handlers(grpc.GenericRpcHandler):
    """Serves the functions that a scenario gives, whatever kind they are of."""

    def __init__(self, **functions: Any) -> None:
        self.functions = functions

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        function = self.functions.get(name)
        if function is None:
            return None
        kind = {
            "uu": grpc.unary_unary_rpc_method_handler,
            "us": grpc.unary_stream_rpc_method_handler,
            "su": grpc.stream_unary_rpc_method_handler,
            "ss": grpc.stream_stream_rpc_method_handler,
        }[name[:2]]
        return kind(function)


@contextlib.asynccontextmanager
async def running(*, server_options: Any = None, channel_options: Any = None, **functions: Any):
    server = grpc.aio.server(migration_thread_pool=ThreadPoolExecutor(4), **(server_options or {}))
    server.add_generic_rpc_handlers((Handlers(**functions),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", **(channel_options or {})) as channel:
        yield channel
    await server.stop(None)


async def echo(request, context):
    return request


async def forever(request, context):
    await asyncio.Event().wait()


async def three(request, context):
    for index in range(3):
        yield request + str(index).encode()


async def join(requests, context):
    return b"".join([request async for request in requests])


async def echo_all(requests, context):
    async for request in requests:
        yield request


async def stream(*messages):
    for message in messages:
        yield message


def error_of(error):
    return [type(error).__name__, error.code().name, error.details()]


async def outcome(awaitable):
    """What awaiting gives, or what it raises."""
    try:
        return await awaitable
    except grpc.RpcError as error:
        return error_of(error)
    except (Exception, asyncio.CancelledError) as error:
        return type(error).__name__


def raised_by(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__


async def collect(call):
    return [reply.decode() async for reply in call]
