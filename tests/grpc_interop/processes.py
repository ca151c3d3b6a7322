"""The server and the client as processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import ROOT, Certificates

# What slow machines take is no failure of a soak.
PATIENT = "--soak_per_iteration_max_acceptable_latency_ms=20000"


def start(program: str, library: str, stubs: Path | None, *flags: str) -> subprocess.Popen[str]:
    # grpcio has warnings of its own, and writes them to stderr.
    warnings = [] if library == "grpcio" else ["-W", "error"]
    flags = (f"--library={library}", *flags, *([f"--stubs={stubs}"] if stubs else []))
    return subprocess.Popen(
        [sys.executable, *warnings, "-m", f"tests.grpc_interop.{program}", *flags],
        cwd=ROOT,
        env=os.environ | {"GRPC_VERBOSITY": "NONE", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(library: str, stubs: Path, address: str, files: Certificates | None) -> dict[str, Any]:
    """What the client observes in all cases, with a server of the same library."""
    server_flags, client_flags = [f"--address={address}"], [PATIENT]
    if files is not None:
        server_flags += [
            f"--tls_cert_file={files.server_chain}",
            f"--tls_key_file={files.server_key}",
        ]
        client_flags += ["--use_test_ca=true", f"--ca_file={files.authority}"]
        for flags in (server_flags, client_flags):
            flags.append("--use_tls=true")
    with start("server", library, stubs, *server_flags) as server:
        try:
            assert server.stdout is not None
            listening = re.fullmatch(r"listening on (\S+)\n", server.stdout.readline())
            assert listening, server.communicate()[1]
            if address.startswith("unix:"):
                client_flags.append(f"--server_target={listening[1]}")
            else:
                client_flags.append(f"--server_port={listening[1].rpartition(':')[2]}")
            observed = observe(library, stubs, "--test_case=all", *client_flags)
        finally:
            server.terminate()
            errors = server.communicate(timeout=30)[1]
        assert server.returncode == 0, errors
    return observed


def observe(library: str, stubs: Path, *flags: str) -> dict[str, Any]:
    """What a client observes, by case."""
    with start("client", library, stubs, *flags) as client:
        try:
            output, errors = client.communicate(timeout=50)
        finally:
            client.kill()
    assert client.returncode == 0, errors
    lines = [line.partition(": ") for line in output.splitlines()]
    return {name: json.loads(observed) for name, _, observed in lines}
