"""Programs as users of ``grpc.aio`` write them: each with grpcio, and over the compat import.

Server and client are processes of their own. What both print is the same, whichever ``grpc`` it is
that they import.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import ROOT

PROGRAMS = Path(__file__).with_name("programs")
# What is no server and client in one.
OTHERS = ("blocking", "run", "serving")
NAMES = sorted(path.stem for path in PROGRAMS.glob("*.py") if path.stem not in OTHERS)
# Its client tells its server to stop.
STOPPED_BY_CLIENT = "graceful_shutdown"
# Of what others have written, the imports cannot be changed.
AS_IT_IS = "third_party"


def generate(directory: Path) -> None:
    """What grpcio-tools writes, as it is."""
    protos = sorted(map(str, PROGRAMS.glob("*.proto")))
    subprocess.run(
        [
            sys.executable,
            *("-m", "grpc_tools.protoc", f"-I{PROGRAMS}"),
            *(f"--python_out={directory}", f"--grpc_python_out={directory}"),
            *protos,
        ],
        check=True,
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("generated")
    generate(directory)
    return directory


def start(mode: str, program: str, generated: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(generated), str(ROOT))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRPC_VERBOSITY": "NONE",
        "GRPC_ENABLE_FORK_SUPPORT": "0",
    }
    warnings = [] if mode == "grpcio" else ["-W", "error"]
    return subprocess.Popen(
        [
            *(sys.executable, *warnings, str(PROGRAMS / "run.py"), mode),
            *(str(PROGRAMS / f"{program}.py"), *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def outputs(mode: str, program: str, generated: Path) -> dict[str, str]:
    """What the server and the client print; of grpcio's own, not what it writes to stderr."""
    with start(mode, program, generated, "server", "127.0.0.1:0") as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            listening = re.fullmatch(r"listening on (\d+)\n", line)
            assert listening, server.communicate()[1]
            with start(mode, program, generated, "client", f"127.0.0.1:{listening[1]}") as client:
                try:
                    client_output, client_errors = client.communicate(timeout=30)
                finally:
                    client.kill()
            if program != STOPPED_BY_CLIENT:
                server.terminate()
            server_output, server_errors = server.communicate(timeout=20)
        finally:
            server.kill()
    assert (client.returncode, server.returncode) == (0, 0), client_errors + server_errors
    if mode != "grpcio":
        assert client_errors + server_errors == ""  # nothing that nobody asked for
    return {"server": server_output, "client": client_output}


@pytest.mark.parametrize("program", NAMES)
def test_same_with_grpcio_and_over_the_compat_import(program: str, generated: Path) -> None:
    modes = ["grpcio", "switch"] if program == AS_IT_IS else ["grpcio", "import", "switch"]
    with ThreadPoolExecutor(len(modes)) as pool:
        grpcio, *others = pool.map(lambda mode: outputs(mode, program, generated), modes)
    assert grpcio["client"]
    for mode, output in zip(modes[1:], others, strict=True):
        assert output == grpcio, mode
