"""docs/rust.md: what it says is run, against Rust servers."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import pytest
from codegen.regenerate import protoc
from interop.programs import PROTOS, WORKSPACE, rust_server
from support import ROOT, complaints

PAGE = (ROOT / "docs" / "rust.md").read_text()
OWN, SERVICE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
TARGET = "127.0.0.1:9000"


def run_commands(directory: Path) -> None:
    shutil.copy(PROTOS / "exercise.proto", directory)
    for line in COMMANDS.splitlines():
        name, *arguments = line.split()
        assert name == "protoc"
        done = protoc(*arguments, cwd=directory)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("program", "snippet", "answer"),
    [
        ("own", OWN, 'echo {\n  data: "hello"\n}\n\n'),
        ("service", SERVICE, 'data: "hello"\n\n'),
    ],
)
async def test_the_programs_run(program: str, snippet: str, answer: str, tmp_path: Path) -> None:
    run_commands(tmp_path)
    for name in ("exercise_protosocket.rs", "protosocket_frame.rs"):  # as compiled in rust/
        compiled = WORKSPACE / "generated" / name
        assert (tmp_path / name).read_text() == compiled.read_text()
    assert TARGET in snippet
    async with rust_server(program) as server:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c"),
            snippet.replace(TARGET, server.target),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complained = await asyncio.wait_for(client.communicate(), 30)
    assert complaints(complained.decode()) == ""
    assert said.decode().endswith(answer)


def test_calling_a_service_takes_ten_lines() -> None:
    lines = [line for line in OWN.splitlines() if line.strip(" )") and " as pool:" not in line]
    assert len(lines) <= 10  # a statement that was wrapped counts once
