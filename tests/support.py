"""Helpers for tests: certificates, waiting without sleeping, servers as processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[1]


async def wait_until(condition: Callable[[], object]) -> None:
    """Let the loop run until something holds. The test's time limit ends it if it never does."""
    while not condition():  # noqa: ASYNC110  # anything can be waited for, not only an Event
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, and what it issued to ``localhost`` / 127.0.0.1 and to a client."""

    authority: Path
    server_chain: Path
    server_key: Path
    client_chain: Path
    client_key: Path

    def server_context(self, *, client_certificates: bool = False) -> ssl.SSLContext:
        """A server's context; with `client_certificates`, clients have to present one."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(self.server_chain, self.server_key)
        if client_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        """A client's context that trusts the authority; `with_certificate` to present one."""
        context = ssl.create_default_context(cafile=str(self.authority))
        if with_certificate:
            context.load_cert_chain(self.client_chain, self.client_key)
        return context


def make_certificates(directory: Path) -> Certificates:
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    client = authority.issue_cert("client@example.org", common_name="client")
    files = Certificates(
        *(directory / f"{name}.pem" for name in ("authority", "server", "server_key")),
        *(directory / f"{name}.pem" for name in ("client", "client_key")),
    )
    authority.cert_pem.write_to_path(files.authority)
    for issued, chain, key in (
        (server, files.server_chain, files.server_key),
        (client, files.client_chain, files.client_key),
    ):
        issued.private_key_pem.write_to_path(key)
        for index, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(chain, append=index > 0)
    return files


@dataclass(frozen=True)
class ServerProcess:
    """A program that said it is ready.

    Attributes:
        ready: the match of the pattern in the line that said so.
    """

    process: asyncio.subprocess.Process
    ready: re.Match[str]


@asynccontextmanager
async def server_process(*arguments: str | Path, ready: str) -> AsyncIterator[ServerProcess]:
    """Run ``python arguments...`` until the block ends.

    The block starts once a line of its standard output matches `ready`. At its end the process is
    told to terminate, unless it has ended already, and must exit with 0, by that signal, or by the
    SIGKILL that the test sent.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        *map(str, arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        seen = ""
        while not (match := re.search(ready, seen, re.MULTILINE)):
            line = await process.stdout.readline()
            assert line, f"ended with {await process.wait()} before it was ready:\n{seen}"
            seen += line.decode()
        yield ServerProcess(process, match)
        if process.returncode is None:
            process.terminate()
        await process.stdout.read()
        assert await process.wait() in (0, -signal.SIGTERM, -signal.SIGKILL)
    finally:
        if process.returncode is None:
            process.kill()
            await process.stdout.read()
            await process.wait()
