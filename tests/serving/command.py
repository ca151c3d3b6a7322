"""``protosocket serve`` as a process, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from serving.programs.app import REPLIES, UNARY
from support import ROOT

import protosocket_rpc as ps

PROGRAMS = ROOT / "tests/serving/programs"


class Stub:
    def __init__(self, channel: ps.Channel) -> None:
        self.channel = channel
        self.unary = channel.method(UNARY)
        self.replies = channel.method(REPLIES)

    async def pid(self) -> int:
        return int(await self.unary(b"", timeout=30))

    async def begun(self, call: ps.UnaryUnaryCall[bytes, bytes]) -> None:
        """Wait until the server is at work on a call: it has answered one that was sent later.

        What it has not read yet when it is told to stop, it does not answer.
        """
        await call.wait_for_connection()
        await self.unary(b"", timeout=30)


class Command:
    """A supervisor that runs, or has run."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[str] = []
        self.output = ""
        self._news = asyncio.Event()
        self._read = 0
        self._readers = [
            asyncio.ensure_future(self._follow_log()),
            asyncio.ensure_future(self._follow_output()),
        ]

    async def _follow_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode().rstrip())
            self._news.set()
        self.log.append("(the end)")
        self._news.set()

    async def _follow_output(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output += line.decode()

    async def said(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, after the last that did."""
        while True:
            while self._read < len(self.log):
                line = self.log[self._read]
                self._read += 1
                if match := re.search(pattern, line):
                    return match
                assert line != "(the end)", "\n".join([f"no {pattern!r} in:", *self.log])
            self._news.clear()
            await self._news.wait()

    async def serves(self) -> str:
        """Wait until all workers do; where."""
        target = (await self.said(r"workers? serve (\S+?),?( |$)"))[1]
        return target.replace("localhost", "127.0.0.1")

    async def metrics_target(self) -> str:
        return (await self.said(r"metrics at http://(\S+)/metrics"))[1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait until it has ended, and all its workers, who share its standard error."""
        code = await self.process.wait()
        await asyncio.gather(*self._readers)
        return code

    async def close(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.ended()


@asynccontextmanager
async def command(
    *arguments: str | Path, program: tuple[str, ...] | None = None, **environment: str
) -> AsyncIterator[Command]:
    """``protosocket serve arguments...``, until the block ends: then it is told to, and has to."""
    program = program or ("-m", "protoc_plugin.cli", "serve", "--app-dir", str(PROGRAMS))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        *program,
        *map(str, arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Command(process)
    try:
        yield running
        if process.returncode is None:
            running.send(signal.SIGTERM)
            assert await running.ended() == 0, "\n".join(running.log)
        for line in running.log:
            assert "Warning" not in line, "\n".join(running.log)
            assert "Traceback" not in line, "\n".join(running.log)
    finally:
        await running.close()


@asynccontextmanager
async def calling(target: str, **options: Any) -> AsyncIterator[Stub]:
    async with ps.insecure_channel(target, **options) as channel:
        yield Stub(channel)


async def http_get(target: str, path: str) -> tuple[int, str]:
    """The status and the body."""
    host, _, port = target.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body
