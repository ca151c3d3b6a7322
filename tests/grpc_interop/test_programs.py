"""The flags of the two programs, beyond those that running all cases shows."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from types import ModuleType

import pytest
from support import Certificates

import protosocket_rpc as ps
from tests.grpc_interop import client, server
from tests.grpc_interop.calling import Client, Soak
from tests.grpc_interop.cases import CASES, run
from tests.grpc_interop.library import load
from tests.grpc_interop.processes import start
from tests.grpc_interop.serving import Identity, serving


def test_defaults_are_the_descriptions(stubs: Path) -> None:
    words = client.parse(["--server_port=1", "--test_case=empty_unary,rpc_soak"])
    made = client.client_for(words)
    assert words.test_case == ["empty_unary", "rpc_soak"]
    assert (made.target, made.credentials) == ("localhost:1", None)
    assert made.soak == Soak(10, 0, 1000, None, 0, 271828, 314159, 1)
    assert client.parse(["--server_port=1", "--test_case=all"]).test_case == list(CASES)


def test_flags_of_the_soak_cases(stubs: Path) -> None:
    flags = ["--soak_iterations=7", "--soak_overall_timeout_seconds=2.5", "--soak_num_threads=3"]
    words = client.parse(["--server_port=1", "--test_case=rpc_soak", *flags])
    expected = Soak(iterations=7, overall_timeout_seconds=2.5, num_threads=3)
    assert client.client_for(words).soak == expected


@pytest.mark.parametrize(
    ("program", "flags", "complaint"),
    [
        (client, ["--server_port=1"], "--test_case"),
        (client, ["--server_port=1", "--test_case=jump"], "no such case: jump"),
        (client, ["--test_case=all"], "--server_port is needed"),
        (client, ["--server_port=1", "--test_case=all", "--use_test_ca=true"], "needs --ca_file"),
        (server, ["--use_tls=maybe"], "neither true nor false: 'maybe'"),
        (server, ["--use_tls=true"], "needs --tls_cert_file and --tls_key_file"),
    ],
)
def test_refused(
    program: ModuleType, flags: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.parse(flags)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("library", ["native", "compat"])
async def test_host_override(library: str, stubs: Path, certificates: Certificates) -> None:
    loaded = load(library)
    identity = Identity(certificates.server_chain, certificates.server_key)
    async with serving(loaded, "127.0.0.1:0", identity) as target:
        host, _, port = target.rpartition(":")

        async def call_as(name: str) -> object:
            flags = [f"--server_host={host}", f"--server_port={port}", "--test_case=empty_unary"]
            flags += ["--use_tls=true", "--use_test_ca=true", f"--ca_file={certificates.authority}"]
            flags += [f"--library={library}", f"--server_host_override={name}"]
            return await run("empty_unary", client.client_for(client.parse(flags)))

        assert await call_as("localhost") == 0
        with pytest.raises(ps.AioRpcError, match="certificate"):
            await call_as("other.example")


async def test_intervals_between_replies(stubs: Path) -> None:
    library = load("native")
    wanted = [library.pb.ResponseParameters(interval_us=20_000)] * 2
    request = library.pb.StreamingOutputCallRequest(response_parameters=wanted)
    async with (
        serving(library, f"memory:{uuid.uuid4().hex}") as target,
        Client(library, target).opened() as opened,
    ):
        started = time.perf_counter()
        replies = [reply async for reply in opened.stub.StreamingOutputCall(request)]
        assert time.perf_counter() - started >= 0.040
    assert len(replies) == 2


def test_case_that_fails(socket_dir: Path) -> None:
    flags = (f"--server_target=unix:{socket_dir}/nobody", "--test_case=empty_unary")
    with start("client", "native", None, *flags) as process:  # generates its code itself
        output, errors = process.communicate(timeout=50)
    assert (process.returncode, output) == (1, "")
    assert "UNAVAILABLE" in errors
