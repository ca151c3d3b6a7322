"""gRPC's interop cases: in every combination they pass, with the results that grpcio has."""

from __future__ import annotations

import uuid
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support import Certificates

from tests.grpc_interop.calling import Client, Soak
from tests.grpc_interop.cases import CASES, COUNTED, run
from tests.grpc_interop.library import load
from tests.grpc_interop.processes import results
from tests.grpc_interop.serving import Identity, serving

PATIENT = Soak(per_iteration_max_acceptable_latency_ms=20_000)


def address_of(transport: str, directory: Path) -> str:
    if transport == "unix":
        return f"unix:{directory}/socket"
    return f"memory:{uuid.uuid4().hex}" if transport == "memory" else "127.0.0.1:0"


def test_all_cases_are_there(reference: dict[str, Any]) -> None:
    assert len(CASES) == 14 + 4 + 2
    assert reference.keys() == CASES.keys()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("transport", ["tcp", "tls", "unix", "memory"])
@pytest.mark.parametrize("library", ["native", "compat"])
async def test_same_as_grpcio(
    library: str,
    transport: str,
    case: str,
    reference: dict[str, Any],
    socket_dir: Path,
    certificates: Certificates,
) -> None:
    loaded, identity, credentials = load(library), None, None
    if transport == "tls":
        identity = Identity(certificates.server_chain, certificates.server_key)
        credentials = loaded.grpc.ssl_channel_credentials(certificates.authority.read_bytes())
    address = address_of(transport, socket_dir)
    async with serving(loaded, address, identity, counted=case in COUNTED) as target:
        observed = await run(case, Client(loaded, target, credentials, soak=PATIENT))
    assert observed == reference[case]


@pytest.mark.parametrize(
    ("library", "transport"),
    [
        *product(("native", "compat"), ("tcp", "tls", "unix")),
        *(("grpcio", "tls"), ("grpcio", "unix")),  # the reference is over TCP
    ],
)
def test_processes(
    library: str,
    transport: str,
    reference: dict[str, Any],
    stubs: Path,
    socket_dir: Path,
    certificates: Certificates,
) -> None:
    files = certificates if transport == "tls" else None
    assert results(library, stubs, address_of(transport, socket_dir), files) == reference
