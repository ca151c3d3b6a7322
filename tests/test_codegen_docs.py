"""docs/generated-code.md shows what is really written, and tells of all there is to tell."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest
from codegen.compare import table
from codegen.regenerate import ROOT, protoc

from protoc_plugin import generate
from protoc_plugin.options import Options
from protoc_plugin.settings import Settings, read_settings

DOCUMENT = (ROOT / "docs" / "generated-code.md").read_text()
PROTOS = ROOT / "examples" / "codegen" / "protos"
NAME = "greeter/v1/greeter"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gen")
    assert generate.main([str(PROTOS), "--out", str(folder)]) == 0
    return (folder / f"{NAME}_protosocket.py").read_text()


def test_the_code_shown_is_the_code_written(output: str) -> None:
    for block in blocks("python"):
        assert block in output
    assert f"{output.count(chr(10))} lines" in DOCUMENT


def test_the_comparison_is_what_is_measured(output: str) -> None:
    """Of what is written now, and of what other projects wrote."""
    assert "\n".join(["", *table(output), ""]) in DOCUMENT


@pytest.mark.parametrize("stream", ["", "stream "])
def test_a_method_takes_at_most_25_lines(stream: str, tmp_path: Path) -> None:
    """Its descriptor, its part of stub and servicer, their docstrings, and all blank lines."""

    def lines(methods: int) -> int:
        rpcs = "".join(
            f"// Does it.\nrpc Method{number}({stream}M) returns ({stream}M);\n"
            for number in range(methods)
        )
        (tmp_path / "a.proto").write_text(
            f'syntax = "proto3"; message M {{}} service S {{ {rpcs} }}'
        )
        assert protoc(f"--protosocket_out={tmp_path}", "a.proto", cwd=tmp_path).returncode == 0
        return (tmp_path / "a_protosocket.py").read_text().count("\n")

    assert lines(3) - lines(2) <= 25


def test_the_settings_shown_are_all_there_are(tmp_path: Path) -> None:
    (block,) = (each for each in blocks("toml") if "[tool.protosocket]" in each)
    (tmp_path / "pyproject.toml").write_text(block)
    settings = read_settings(tmp_path)
    assert all(getattr(settings, field.name) for field in dataclasses.fields(Settings))


def test_every_option_is_told_of() -> None:
    for name in Options._fields:
        assert re.search(rf"^\| `{name}=", DOCUMENT, re.MULTILINE), name


NOTHING = "message M {}"
SERVICE = "message M {} service S { rpc Get(M) returns (M); }"
REFUSED = {
    "a folder named as a module beside it": (
        {"a.proto": NOTHING, "a_pb2/b.proto": "package b;"},
        "",
    ),
    "a file whose name starts with `-`": ({"it's.proto": NOTHING}, ""),
    "two files that would be one": (
        {"a-b.proto": SERVICE, "a_b.proto": SERVICE},
        "codec=bytes",
    ),
    "a message, enum, value or extension": ({"a.proto": "message _globals {}"}, ""),
    "a message with a dunder name": ({"a.proto": "message __dict__ {}"}, ""),
    "a message inside another": ({"a.proto": "message M { message FromString {} }"}, ""),
    "a message in no package": (
        {"a.proto": SERVICE},
        "codec=betterproto2",
    ),
    "a folder that would hide a module of Python": (
        {
            "typing/a.proto": "package typing; message M {} "
            "service S { rpc Get(typing.M) returns (typing.M); }"
        },
        "imports=absolute",
    ),
}


def test_all_that_is_refused_is_tried() -> None:
    rows = [line for line in DOCUMENT.split("\n") if "| refused:" in line]
    assert len(rows) == len(REFUSED)
    for start in REFUSED:
        assert any(row.startswith(f"| {start}") for row in rows), start


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_refused_is_refused_in_one_line(row: str, tmp_path: Path) -> None:
    files, options = REFUSED[row]
    for number, (name, text) in enumerate(files.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        package = "" if "package" in text or row.endswith("no package") else f"package p{number};"
        (tmp_path / name).write_text(f'syntax = "proto3"; {package} {text}')
    out = tmp_path / "out"
    out.mkdir()
    done = protoc(f"--protosocket_out={options}:{out}", *files, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert any(name in done.stderr for name in files)
    assert not any(out.iterdir())


def test_options_in_a_proto_are_as_shown(tmp_path: Path) -> None:
    (block,) = blocks("proto")
    (tmp_path / "a.proto").write_text(
        'syntax = "proto3";\n' + block + "message GreetRequest {}\nmessage GreetReply {}\n"
    )
    done = protoc(f"--protosocket_out={tmp_path}", "a.proto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "a_protosocket.py").read_text()
    for setting in ("timeout=0.5", "max_request_size=65536", "max_reply_size=65536"):
        assert setting in text


def test_the_rust_that_is_shown_is_what_the_interop_tests_compile() -> None:
    modules, service = blocks("rust")
    source = ROOT / "tests" / "interop" / "rust" / "src"
    modules = modules.replace('include!("gen/', 'include!("../generated/')
    assert textwrap.indent(modules, "    ") in (source / "lib.rs").read_text()
    assert service in (source / "documented.rs").read_text()


def test_rust_has_the_names_that_are_shown(tmp_path: Path) -> None:
    done = protoc(f"--protosocket_out=lang=rust:{tmp_path}", f"{NAME}.proto", cwd=PROTOS)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / f"{NAME}_protosocket.rs").read_text()
    frame = (tmp_path / "protosocket_frame.rs").read_text()
    for name in ("fn greet(", "type GreetInEveryLanguageStream", "GreeterServer", "GreeterClient"):
        assert name in text
    for name in ("pub struct Caller", "pub struct Context", "impl Status"):
        assert name in frame
