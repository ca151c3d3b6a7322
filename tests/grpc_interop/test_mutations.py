"""The cases can fail: each does once its server, or what is under it, is broken."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import protosocket_rpc as ps
from protosocket_rpc.service import session
from protosocket_rpc.service.method import StreamStreamMultiCallable
from tests.grpc_interop import broken
from tests.grpc_interop.calling import Client
from tests.grpc_interop.cases import CASES, run
from tests.grpc_interop.library import Library, load
from tests.grpc_interop.servicer import Handlers
from tests.grpc_interop.serving import serving

SERVERS: dict[str, list[type[Handlers]]] = {
    "empty_unary": [broken.Failing],
    "large_unary": [broken.Short, broken.NotOnlyZeros],
    "client_compressed_unary": [broken.NothingExpected],
    "server_compressed_unary": [broken.NeverCompressing, broken.AlwaysCompressing],
    "client_streaming": [broken.Miscounting],
    "client_compressed_streaming": [broken.NothingExpected, broken.Miscounting],
    "server_streaming": [broken.Short, broken.OneMore],
    "server_compressed_streaming": [broken.NeverCompressing, broken.AlwaysCompressing],
    "ping_pong": [broken.Short, broken.OneMore, broken.Silent],
    "empty_stream": [broken.OneMore],
    "custom_metadata": [broken.NoMetadata, broken.OnlyInitialMetadata, broken.OtherMetadata],
    "status_code_and_message": [broken.OtherCode, broken.StrippedMessage],
    "special_status_message": [broken.OtherCode, broken.StrippedMessage],
    "unimplemented_method": [broken.Implemented],
    "cancel_after_first_response": [broken.Silent],
    "rpc_soak": [broken.Short, broken.FailingLater],
    "channel_soak": [broken.Short, broken.FailingLater],
}


async def fails(case: str, library: Library, handlers: type[Handlers]) -> None:
    async with serving(library, f"memory:{uuid.uuid4().hex}", handlers=handlers) as target:
        with pytest.raises((AssertionError, ps.AioRpcError)):
            await run(case, Client(library, target))


@pytest.mark.parametrize(
    ("case", "handlers"), [(case, each) for case, servers in SERVERS.items() for each in servers]
)
async def test_broken_server(case: str, handlers: type[Handlers], stubs: Path) -> None:
    await fails(case, load("native"), handlers)


async def test_service_that_is_implemented(stubs: Path) -> None:
    library = load("native")

    def add(servicer: Any, server: ps.Server) -> None:
        server.add(servicer)
        base = library.services.UnimplementedServiceServicer
        both = type("Both", (base,), {"UnimplementedCall": Handlers.EmptyCall, "library": library})
        server.add(both())

    await fails("unimplemented_service", replace(library, add=add), Handlers)


def half_close(call: Any) -> Any:
    return asyncio.ensure_future(call.done_writing())


NOT_COMPRESSING = (session, "compress", lambda compression, body: body)

RUNTIMES = {
    "client_compressed_unary": NOT_COMPRESSING,
    "client_compressed_streaming": NOT_COMPRESSING,
    "server_compressed_unary": NOT_COMPRESSING,
    "server_compressed_streaming": NOT_COMPRESSING,
    "cancel_after_begin": (ps.StreamUnaryCall, "cancel", half_close),
    "cancel_after_first_response": (ps.StreamStreamCall, "cancel", half_close),
}


@pytest.mark.source
@pytest.mark.parametrize("case", RUNTIMES)
async def test_broken_runtime(case: str, stubs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*RUNTIMES[case])
    await fails(case, load("native"), Handlers)


@pytest.mark.source
async def test_forgotten_deadline(stubs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = StreamStreamMultiCallable.__call__
    monkeypatch.setattr(
        StreamStreamMultiCallable,
        "__call__",
        lambda self, requests, timeout: whole(self, requests),
    )
    await fails("timeout_on_sleeping_server", load("native"), broken.Silent)


def test_every_case_is_broken_once() -> None:
    others = {"unimplemented_service", "timeout_on_sleeping_server"}
    assert SERVERS.keys() | RUNTIMES.keys() | others == CASES.keys()
