"""All cases of gRPC's interop test description that need no cloud, by their names."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from protosocket_rpc.testing import Link
from tests.grpc_interop import base_cases, compression_cases, soak_cases
from tests.grpc_interop.calling import Client
from tests.grpc_interop.meter import Meter, beside

COUNTED = {case.__name__ for case in compression_cases.CASES}
"""Those that only pass if client and server count bytes."""

CASES = {
    case.__name__: case for case in (*base_cases.CASES, *compression_cases.CASES, *soak_cases.CASES)
}


async def run(name: str, client: Client) -> Any:
    """Run a case on a channel of its own; what it has observed, made of what JSON has."""
    async with AsyncExitStack() as stack:
        if name in COUNTED:
            link = await stack.enter_async_context(Link(client.target, beside(client.target)))
            client = replace(client, target=link.target, replies=Meter(link.to_client))
        return await CASES[name](await stack.enter_async_context(client.opened()))
