"""What a run of the plugin costs: what it imports, how long it takes, and thousands of files."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
from codegen.measure import answers
from codegen.regenerate import ROOT, contents, protoc, request_for

from protoc_plugin.bytecode import BytecodeCache
from protoc_plugin.main import respond
from protoc_plugin.render import shipped

# Answers a request as the plugin does, then tells on stderr what has been imported for that.
ANSWER_AND_TELL = """
import sys
from protoc_plugin.__main__ import main
main()
print(*sys.modules, file=sys.stderr)
"""
# What takes long to import, and whatever is for another command or another language.
NOT_NEEDED = {
    *("argparse", "asyncio", "dataclasses", "difflib", "importlib.metadata", "socket", "ssl"),
    *("subprocess",),
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
        # Bytecode is kept, as users have it.
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_start_up_takes_less_than_150_ms() -> None:
    """On a machine where Python and the libraries need most of that, little more than they do."""
    request = request_for("helloworld")
    libraries = "import jinja2, google.protobuf.compiler.plugin_pb2"
    own, theirs = math.inf, math.inf
    for _ in range(20):  # until both have had a moment without others on the machine
        theirs = min(theirs, cpu_time("-c", libraries, request=request))
        own = min(own, cpu_time("-m", "protoc_plugin", request=request))
        if own < max(0.150, 1.4 * theirs):
            return
    pytest.fail(f"{own * 1e3:.0f} ms, of which {theirs * 1e3:.0f} ms are the libraries'")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where compiled templates are kept, and nothing is yet."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path / "kept"


def test_templates_are_compiled_once(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = request_for("helloworld")
    expected = respond(request)
    names = sorted(path.name.split(".")[0] for path in kept.glob("**/*.j2c"))
    assert names == ["_descriptor", "_imports", "_servicer", "_stub", "{file}_protosocket"]
    with monkeypatch.context() as patch:
        patch.delattr(jinja2.Environment, "compile")
        assert respond(request) == expected


def test_what_was_compiled_is_never_in_the_way(kept: Path) -> None:
    request = request_for("helloworld")
    expected = respond(request)
    empty, short, nonsense, cut, folder = sorted(kept.glob("**/*.j2c"))
    empty.write_bytes(b"")
    short.write_bytes(b"j2")
    nonsense.write_bytes(b"nonsense" * 100)
    cut.write_bytes(cut.read_bytes()[:-100])
    folder.unlink()
    folder.mkdir()
    assert respond(request) == expected
    assert all(path.stat().st_size > 1000 for path in (empty, short, nonsense, cut))


def test_templates_are_compiled_where_that_cannot_be_kept(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_for("helloworld")
    kept.write_text("no folder")
    expected = respond(request)
    kept.unlink()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert respond(request) == expected
    assert not kept.exists()


def test_a_changed_template_is_compiled_anew(kept: Path, tmp_path: Path) -> None:
    for text in ("one", "two"):
        (tmp_path / "a.j2").write_text(text)
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(tmp_path), bytecode_cache=BytecodeCache(tmp_path)
        )
        assert environment.get_template("a.j2").render() == text
        assert len(list(kept.glob("**/*.j2c"))) == 1


def test_nothing_is_kept_of_the_users_templates(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "_stub.py.j2").write_text('{% include "builtin/_stub.py.j2" %}')
    respond(request_for("helloworld", f"templates={tmp_path}"))
    folders = {path.parent for path in kept.glob("**/*.j2c")}
    assert folders == {kept.joinpath(*shipped("templates").parts[1:], "python")}


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
