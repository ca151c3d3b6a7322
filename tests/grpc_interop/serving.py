"""A server of any library, which counts what it gets if it is asked to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from protosocket_rpc.testing import Link
from tests.grpc_interop.library import Library
from tests.grpc_interop.meter import Meter, beside
from tests.grpc_interop.servicer import Handlers


@dataclass(frozen=True)
class Identity:
    """PEM files of a server."""

    chain: Path
    key: Path


@asynccontextmanager
async def serving(
    library: Library,
    address: str,
    identity: Identity | None = None,
    *,
    counted: bool = True,
    handlers: type[Handlers] = Handlers,
) -> AsyncIterator[str]:
    """A server, until the block ends; yields its target.

    Args:
        address: where to listen.
        identity: for TLS.
        counted: there is a link at the address, and the server behind it. Without, it cannot tell
            how requests were compressed.
        handlers: of the service.
    """
    servicer = type("Servicer", (handlers, library.services.TestServiceServicer), {})()
    servicer.library = library
    server = library.aio.server()
    library.add(servicer, server)
    behind = beside(address) if counted else address
    if identity is None:
        port = server.add_insecure_port(behind)
    else:
        pair = (identity.key.read_bytes(), identity.chain.read_bytes())
        port = server.add_secure_port(behind, library.grpc.ssl_server_credentials([pair]))
    target = behind.replace(":0", f":{port}")
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, None)
        if counted:
            link = await stack.enter_async_context(Link(target, address))
            servicer.requests, target = Meter(link.to_server), link.target
        yield target
