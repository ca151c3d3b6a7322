"""Imports every module of a generated package; serves and calls every method of its services.

``python serve_everything.py FOLDER PACKAGE`` prints how many modules and methods there were. Each
method is called over a real connection with default messages, and answers with default messages.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import protosocket_rpc

ITEMS = 2


def modules(folder: Path, package: str) -> list[Any]:
    """The modules of a package, imported."""
    names = sorted(
        path.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
        for path in (folder / package).glob("**/*.py")
        if path.name != "__init__.py"
    )
    return [import_module(name) for name in names]


def services(module: Any) -> list[tuple[protosocket_rpc.ServiceDescriptor, type, type]]:
    """The descriptor, stub and servicer of each service in a module."""
    return [
        (
            servicer.__protosocket_service__,
            getattr(module, name.removesuffix("Servicer") + "Stub"),
            servicer,
        )
        for name, servicer in vars(module).items()
        if name.endswith("Servicer") and hasattr(servicer, "__protosocket_service__")
    ]


def default(marshaller: protosocket_rpc.Marshaller[Any]) -> Any:
    """A message of default values, the required ones too."""
    message = marshaller.parse(b"")
    if hasattr(message, "DESCRIPTOR"):
        fill(message)
    return message


def fill(message: Any) -> None:
    for field in type(message).DESCRIPTOR.fields:
        if field.is_required:
            if field.message_type:
                getattr(message, field.name).SetInParent()
                fill(getattr(message, field.name))
            else:
                setattr(message, field.name, field.default_value)


def handler(method: protosocket_rpc.MethodDescriptor[Any, Any]) -> Any:
    """A handler of the method's kind, which answers with default messages."""
    request_type = type(default(method.request))

    async def unary(self: object, request: Any, context: object) -> Any:
        requests = [each async for each in request] if method.streams_requests else [request]
        assert all(type(each) is request_type for each in requests)
        assert len(requests) == (ITEMS if method.streams_requests else 1)
        return default(method.reply)

    async def stream(self: object, request: Any, context: object) -> AsyncIterator[Any]:
        yield await unary(self, request, context)
        yield default(method.reply)

    return stream if method.streams_replies else unary


async def call(stub: Any, method: protosocket_rpc.MethodDescriptor[Any, Any]) -> None:
    """Calls a method, and checks that it answers as its handler does."""
    request = default(method.request)
    rpc = getattr(stub, method.handler)([request] * ITEMS if method.streams_requests else request)
    if method.streams_replies:
        assert [reply async for reply in rpc] == [default(method.reply)] * ITEMS
    else:
        assert await rpc == default(method.reply)


async def call_everything(found: list[Any]) -> int:
    """Serves and calls all services of the modules; returns the number of methods."""
    server = protosocket_rpc.server()
    port = server.add_insecure_port("127.0.0.1:0")
    everything = [service for module in found for service in services(module)]
    for service, _, base in everything:
        handlers = {method.handler: handler(method) for method in service.methods}
        server.add(type("Servicer", (base,), handlers)())
    await server.start()
    count = 0
    async with protosocket_rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for service, stub, _ in everything:
            for method in service.methods:
                await call(stub(channel), method)
                count += 1
    await server.stop()
    return count


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    loaded = modules(Path(sys.argv[1]), sys.argv[2])
    warnings.filterwarnings("ignore", "/.* is deprecated", DeprecationWarning)
    print(len(loaded), asyncio.run(call_everything(loaded)))
