"""The example's server and client, each a process, as docs/own-messages.md runs them."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, server_process

EXAMPLE = ROOT / "examples" / "own_messages"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its messages generated."""
    directory = tmp_path_factory.mktemp("own_messages")
    for name in ("ticker.proto", "server.py", "client.py"):
        shutil.copy(EXAMPLE / name, directory)
    generate = [sys.executable, "-m", "protoc_plugin.cli", "generate"]
    subprocess.run(
        [*generate, directory / "ticker.proto", "--out", directory / "generated"],
        cwd=ROOT,
        check=True,
    )
    return directory


async def test_the_ticker(example: Path) -> None:
    async with (
        server_process(example / "server.py", "127.0.0.1:0", ready=r"serving on (\S+)$") as server,
        server_process(
            example / "client.py", server.ready[1], ready=r"(?s)\A(.*^UMBRELLA: .*$)"
        ) as client,
    ):
        assert client.ready[1].splitlines() == [
            "ACME is at 1234",
            "INITECH is at 500",
            "INITECH went 500 400 300 200 100, and that was it",
            "ACME is at 1234, enough",
            "UMBRELLA: the server cancelled the RPC, or refused it",
        ]
        assert await client.process.wait() == 0
        output = server.process.stdout
        assert output is not None
        said = [(await asyncio.wait_for(output.readline(), 10)).decode() for _ in range(4)]
        assert "is here" in said[0]
        assert {"INITECH is followed no more\n", "ACME is followed no more\n"} < set(said)
        # A client that closes without reading the last of a stream may reset the connection.
        assert [line for line in said if line.startswith(("gone", "lost: "))]
