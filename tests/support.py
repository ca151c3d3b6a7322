"""Helpers for tests: certificates, waiting without sleeping, servers as processes, peers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import signal
import socket
import ssl
import struct
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import uvloop

from protosocket_rpc.raw import (
    Connection,
    Limits,
    RawServer,
    Reactor,
    connect,
    parse_address,
    serve,
)
from protosocket_rpc.raw.codecs import ByteLineCodec

ROOT = Path(__file__).parents[1]


class UvLoop(uvloop.Loop):
    def close(self) -> None:
        """Warn of what is left open when all is closed.

        If a warning is an error, uvloop does not close what it warns of, and waits for it for ever.
        """
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always", ResourceWarning)
            super().close()
        for each in left:
            warnings.warn(str(each.message), ResourceWarning, stacklevel=2)


async def wait_until(condition: Callable[[], object]) -> None:
    """Let the loop run until something holds. The test's time limit ends it if it never does."""
    while not condition():  # noqa: ASYNC110  # anything can be waited for, not only an Event
        await asyncio.sleep(0)


_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port that nothing listens on, and that no other process is given while the test runs."""
    sock = socket.socket()
    _reserved.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a server can have it
    sock.bind(("", 0))
    port: int = sock.getsockname()[1]
    return port


def release_ports() -> None:
    """End what `free_port` has reserved."""
    while _reserved:
        _reserved.pop().close()


def complaints(stderr: str) -> str:
    """What a program wrote, without how slow asyncio's debug mode finds it on a busy machine."""
    return re.sub(r"^.*Executing <.* took \d+\.\d+ seconds(\n|$)", "", stderr, flags=re.MULTILINE)


def code_block(page: str, after: str) -> str:
    """The code block of a page that follows a text."""
    found = re.search(r"```\w+\n(.*?)```", page[page.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


def default(function: Callable[..., object], parameter: str) -> object:
    """What a function takes for a parameter that is not given."""
    return inspect.signature(function).parameters[parameter].default


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


class Recorder(Reactor[Any, Any]):
    """A reactor that notes what it is told, and lets a test wait for it."""

    def __init__(self) -> None:
        self.connection: Connection[Any, Any]
        self.events: list[str] = []
        self.messages: list[Any] = []
        self.failures: list[Exception] = []
        self.causes: list[Exception | None] = []
        self._changed = asyncio.Event()

    def _note(self, event: str) -> None:
        self.events.append(event)
        self._changed.set()

    def on_open(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection
        self._note("open")

    def on_message(self, message: Any) -> None:
        self.messages.append(message)
        self._note("message")

    def on_writable(self) -> None:
        self._note("writable")

    def on_eof(self) -> bool:
        self._note("eof")
        return False

    def on_failure(self, error: Exception) -> None:
        self.failures.append(error)
        self._note("failure")

    def on_close(self, cause: Exception | None) -> None:
        self.causes.append(cause)
        self._note("close")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something holds that only an event can change."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def received(self, count: int) -> list[Any]:
        """Wait for `count` messages in all, and take them."""
        await self.until(lambda: len(self.messages) >= count)
        messages, self.messages = self.messages, []
        return messages

    async def closed(self) -> Exception | None:
        """Wait for the end; the cause of it."""
        await self.until(lambda: self.causes)
        (cause,) = self.causes
        return cause


class RawPeer:
    """A socket without any of our code behind it, for peers that misbehave."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def connect(cls, target: str) -> RawPeer:
        address = parse_address(target)
        family = socket.AF_UNIX if address.path else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        where = address.path or (address.host, address.port)
        await asyncio.get_running_loop().sock_connect(sock, where)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def read(self, size: int = 1 << 16) -> bytes:
        """Some bytes; none at the end."""
        return await self._loop.sock_recv(self.socket, size)

    async def read_all(self) -> bytes:
        """Everything up to the end, which may be a reset."""
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := await self.read():
                data += piece
        return bytes(data)

    def end(self) -> None:
        """Send no more, as a half-closing peer does."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Go without a word: what a crash looks like from the other side."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()


@asynccontextmanager
async def listening(
    target: str = "127.0.0.1:0",
    codec: Callable[[], Any] = ByteLineCodec,
    reactor: Callable[[], Recorder] = Recorder,
    **options: Any,
) -> AsyncIterator[tuple[RawServer[Any, Any], list[Recorder]]]:
    """A server, and the reactors of the connections that it accepts."""
    reactors: list[Recorder] = []

    def accept() -> Recorder:
        reactors.append(reactor())
        return reactors[-1]

    async with await serve(target, codec, accept, **options) as server:
        yield server, reactors


@asynccontextmanager
async def connected(
    target: str = "127.0.0.1:0",
    codec: Callable[[], Any] = ByteLineCodec,
    *,
    client: Callable[[], Recorder] = Recorder,
    server: Callable[[], Recorder] = Recorder,
    client_limits: Limits | None = None,
    certificates: Certificates | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Recorder, Recorder]]:
    """Two reactors, of the client and of the server, with a connection between them."""
    client_context = None
    if certificates:
        options["ssl"] = certificates.server_context()
        client_context = certificates.client_context()
    async with listening(target, codec, server, **options) as (listener, reactors):
        mine = client()
        connection = await connect(
            listener.target, codec(), mine, limits=client_limits, ssl=client_context
        )
        await wait_until(lambda: reactors and reactors[0].events)
        yield mine, reactors[0]
        connection.close()
        await connection.wait_closed()
