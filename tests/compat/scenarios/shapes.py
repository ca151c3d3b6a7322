"""Programs of another shape: handlers in a dictionary, Unix sockets."""

from __future__ import annotations

import json
import tempfile

from scenarios import Handlers, echo, grpc


def to_json(message):
    return json.dumps(message).encode()


async def method_handlers_in_a_dictionary():
    server = grpc.aio.server()
    handlers = {
        "uu": grpc.unary_unary_rpc_method_handler(
            echo, request_deserializer=json.loads, response_serializer=to_json
        )
    }
    generic = grpc.method_handlers_generic_handler("pkg.Service", handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers("pkg.Service", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(
            "/pkg.Service/uu",
            request_serializer=to_json,
            response_deserializer=json.loads,
            _registered_method=True,
        )
        result = await method(["a", 1])
    await server.stop(None)
    handler = handlers["uu"]
    return [
        result,
        generic.service_name(),
        [handler.request_streaming, handler.response_streaming, handler.unary_unary is echo],
        handler.unary_stream,
        isinstance(handler, grpc.RpcMethodHandler),
        isinstance(handler._replace(unary_unary=None), tuple),
        isinstance(generic, grpc.GenericRpcHandler),
    ]


async def unix_socket():
    with tempfile.TemporaryDirectory() as directory:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Handlers(uu=echo),))
        server.add_insecure_port(f"unix:{directory}/socket")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{directory}/socket") as channel:
            result = await channel.unary_unary("/s/uu")(b"x")
        await server.stop(None)
        return result.decode()
