"""What is generated and built for these tests, and how the Rust programs are run."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from codegen.regenerate import protoc
from support import ROOT, free_port

from protoc_plugin import generate

HERE = Path(__file__).parent
PROTOS = HERE / "protos"
DOCUMENTED = ROOT / "examples" / "codegen" / "protos"
WORKSPACE = HERE / "rust"
PROGRAMS = WORKSPACE / "target" / "debug"


def generate_python() -> None:
    """Messages, stubs and servicers of the exercise, into the package beside this file."""
    if generate.main([str(PROTOS), "--out", str(HERE / "generated")]):
        raise RuntimeError("the exercise cannot be generated")


def generate_rust() -> Path:
    """The Rust that is compiled. A protoc for prost comes with it; returns its path."""
    out = WORKSPACE / "generated"
    out.mkdir(exist_ok=True)
    with TemporaryDirectory() as fresh:
        for folder, proto in ((PROTOS, "exercise.proto"), (DOCUMENTED, "greeter/v1/greeter.proto")):
            done = protoc(f"--protosocket_out=lang=rust:{fresh}", proto, cwd=folder)
            if done.returncode:
                raise RuntimeError(done.stderr)
        compiler = Path(fresh, "protoc")
        compiler.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m grpc_tools.protoc "$@"\n')
        compiler.chmod(0o755)
        # What stays the same need not be compiled again.
        for path in filter(Path.is_file, Path(fresh).glob("**/*")):
            present = out / path.relative_to(fresh)
            if not present.exists() or present.read_bytes() != path.read_bytes():
                present.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, present)
    return out / "protoc"


def cargo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs cargo in the workspace, with its output captured: stdout and stderr as one text."""
    if shutil.which("cargo") is None:
        raise RuntimeError("cargo is not on the path: see https://rustup.rs")
    return subprocess.run(
        ["cargo", *arguments],
        cwd=WORKSPACE,
        env=os.environ | {"PROTOC": str(generate_rust())},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class Program:
    """A Rust program that said it is ready."""

    def __init__(self, process: asyncio.subprocess.Process, target: str) -> None:
        self.process = process
        self.target = target

    async def line(self) -> str:
        """The next line that it says."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, "it ended"
        return line.decode().rstrip("\n")

    def tell(self, command: str) -> None:
        """Have a client do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def ask(self, command: str) -> str:
        """Have a client do something, and what comes of it."""
        self.tell(command)
        return await self.line()

    async def kill(self) -> None:
        """SIGKILL: what a crash looks like from the other side."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def program(
    name: str, kind: str, target: str, *options: str | Path
) -> AsyncIterator[Program]:
    """Run a program as `kind`, ``server`` or ``client``, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        PROGRAMS / name,
        kind,
        target,
        *map(str, options),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    running = Program(process, target)
    try:
        assert await running.line() == "ready"
        yield running
        assert process.returncode is None or process.returncode == -9, "it ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()


def rust_server(
    name: str, *options: str | Path, target: str | None = None
) -> AbstractAsyncContextManager[Program]:
    """Serve on `target`, or on a port that is free."""
    return program(name, "server", target or f"127.0.0.1:{free_port()}", *options)


def rust_client(
    name: str, target: str, *options: str | Path
) -> AbstractAsyncContextManager[Program]:
    return program(name, "client", target, *options)
