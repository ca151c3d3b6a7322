"""What a run of the plugin costs: what it imports, how long it takes, and thousands of files."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from codegen.measure import answers
from codegen.regenerate import ROOT, contents, protoc, request_for

# Answers a request as the plugin does, then tells on stderr what has been imported for that.
ANSWER_AND_TELL = """
import sys
from protoc_plugin.main import main
main()
print(*sys.modules, file=sys.stderr)
"""
# What takes long to import, and whatever is for another command or another language.
NOT_NEEDED = {
    *("argparse", "asyncio", "difflib", "importlib.metadata", "socket", "ssl", "subprocess"),
    *("grpc", "grpc_tools", "protosocket_rpc", "tomli", "tomllib", "uvloop"),
    *("protoc_plugin.compiler", "protoc_plugin.generate", "protoc_plugin.settings"),
}


@pytest.mark.parametrize(
    ("case", "parameter", "not_needed"),
    [
        ("helloworld", "", {"protoc_plugin.rust"}),
        ("helloworld", "lang=rust", {"protoc_plugin.python"}),
        ("empty", "", {"jinja2", "protoc_plugin.render"}),
    ],
)
def test_only_what_a_run_needs_is_imported(case: str, parameter: str, not_needed: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ANSWER_AND_TELL],
        input=b"" if case == "empty" else request_for(case, parameter),
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    modules = set(done.stderr.decode().split())
    assert "protoc_plugin.builder" in modules
    assert not modules & (NOT_NEEDED | not_needed)


def cpu_time(*arguments: str, request: bytes) -> float:
    """The seconds that Python with these arguments takes of a processor, all in all."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        input=request,
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_start_up_takes_less_than_150_ms() -> None:
    """Where Python and the libraries need more than half of that, it is twice what they need."""
    request = request_for("helloworld")
    libraries = "import jinja2, google.protobuf.compiler.plugin_pb2"
    assert any(
        cpu_time("-m", "protoc_plugin", request=request)
        < max(0.150, 2 * cpu_time("-c", libraries, request=request))
        for _ in range(10)
    )


def test_thousands_of_files_are_a_matter_of_seconds() -> None:
    """A few ms and about 100 KB for a file: no more for the last than for the first."""
    first, few, many = answers([1, 100, 600])
    assert (many[0] - few[0]) / 600 < 3 * (few[0] - first[0]) / 100
    assert (many[0] - few[0]) / 600 < 0.025
    assert (many[1] - few[1]) / 500 < 150


def test_protoc_takes_thousands_of_files_at_once(tmp_path: Path) -> None:
    """Through a real protoc, with all its imports; the command line is a file of arguments."""
    count = 1000
    for number in range(count):
        before = f'import "file{number - 1}.proto";' if number else ""
        (tmp_path / f"file{number}.proto").write_text(
            f'syntax = "proto3"; package p{number}; {before} message M {{}}'
            f"service S {{ rpc Get({f'p{number - 1}.M' if number else 'M'}) returns (M); }}"
        )
    arguments = tmp_path / "arguments.txt"
    arguments.write_text("\n".join(f"file{number}.proto" for number in range(count)))
    done = protoc(f"--protosocket_out={tmp_path}", f"@{arguments}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(contents(tmp_path)) == count
    text = contents(tmp_path)[f"file{count - 1}_protosocket.py"]
    assert f"from . import file{count - 2}_pb2 as _file{count - 2}_pb2\n" in text
