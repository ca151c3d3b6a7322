"""The demo does what it says, and says so when it does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, complaints


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo as a clone has it: nothing is generated yet."""
    folder = tmp_path / "examples" / "demo"
    shutil.copytree(
        ROOT / "examples" / "demo",
        folder,
        ignore=shutil.ignore_patterns("generated", "__pycache__"),
    )
    return folder


def run(demo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "examples.demo"],
        cwd=demo.parents[1],
        capture_output=True,
        text=True,
    )


def test_everything_is_as_it_should_be(demo: Path) -> None:
    # Twice: what is there already is no hindrance.
    for result in (run(demo), run(demo)):
        assert result.returncode == 0, result.stdout + result.stderr
        assert complaints(result.stderr) == ""
        for line in (
            r"wrote observatory_pb2\.py, observatory_pb2\.pyi, observatory_protosocket\.py",
            r"server, process \d+: serving on port \d+ \(uvloop\)",
            r"unary +Vega, 20 ms: 19455 photons",
            r"2720 ms of exposures took \d+ ms",
            r"the logbook: END_STOPPED after \d+ sightings",
            r"DEADLINE_EXCEEDED after \d\.\d\d s",
            r"NOT_FOUND: no star named 'Sirus' .* did you mean Sirius\?",
            r"\d+ calls, [\d,]+ a second",
            r"latency p50 .* ms, p90 .* ms, p99 .* ms, p99\.9 .* ms",
            r"All of this took 1 connection\.",
        ):
            assert re.search(line, result.stdout), result.stdout


@pytest.mark.parametrize(
    ("code", "broken", "said"),
    [
        (
            "await asyncio.sleep(request.exposure_ms / 1000)",
            "__import__('time').sleep(request.exposure_ms / 1000)",
            "Not so: the answers came back shortest first, the reverse of asking.",
        ),
        (
            "entry.end or LogEntry.END_STOPPED",
            "LogEntry.END_COMPLETE",
            "Not so: the handler was stopped.",
        ),
        (
            "StatusCode.NOT_FOUND",
            "StatusCode.INTERNAL",
            "Not so: a star that is not there is NOT_FOUND.",
        ),
        (
            "return picture",
            "raise ValueError",
            "A call failed that should not have: UNKNOWN",
        ),
    ],
    ids=["in turn", "not stopped", "another status", "a failing call"],
)
def test_what_is_not_so_is_said(demo: Path, code: str, broken: str, said: str) -> None:
    server = demo / "server.py"
    text = server.read_text()
    assert code in text
    server.write_text(text.replace(code, broken))
    result = run(demo)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Everything was as it should be" not in result.stdout


def test_a_server_that_does_not_start_is_an_error(demo: Path) -> None:
    (demo / "server.py").write_text("raise SystemExit(3)")
    result = run(demo)
    assert result.returncode == 1
    assert "did not start" in result.stdout


def test_a_proto_that_does_not_compile_is_an_error(demo: Path) -> None:
    (demo / "observatory.proto").write_text("no proto")
    result = run(demo)
    assert result.returncode == 1
    assert "protoc failed with exit code 1" in result.stderr


@pytest.mark.toolchain
def test_its_types_hold(demo: Path) -> None:
    assert run(demo).returncode == 0
    # Where mypy finds it, however the package is installed.
    (demo.parents[1] / "protosocket_rpc").symlink_to(ROOT / "protosocket_rpc")
    config = ROOT / "pyproject.toml"
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", config, "-p", "examples.demo"],
        cwd=demo.parents[1],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout
