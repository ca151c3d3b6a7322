"""The plugin: what it writes, and what it refuses."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from codegen.measure import answers
from codegen.regenerate import CASES, HERE, ROOT, generate, options_of, protoc, protos_of
from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

import protoc_plugin
import protosocket_rpc
from protoc_plugin.filters import docstring
from protoc_plugin.main import respond

HELLOWORLD = HERE / "helloworld"


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.glob("**/*_protosocket.*")
    } | {path.name: path.read_text() for path in folder.glob("*.rs")}


def request_for(case: str, parameter: str = "") -> bytes:
    """The request that protoc would send for a case."""
    done = protoc(
        "--include_imports",
        "--include_source_info",
        "--descriptor_set_out=/dev/stdout",
        *protos_of(case),
        cwd=HERE / case,
        text=False,
    )
    assert done.returncode == 0, done.stderr
    return plugin_pb2.CodeGeneratorRequest(
        file_to_generate=protos_of(case),
        parameter=parameter or options_of(case),
        proto_file=descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file,
    ).SerializeToString()


@pytest.mark.parametrize("case", CASES)
def test_output_is_the_committed_one(case: str, tmp_path: Path) -> None:
    generate(case, tmp_path)
    assert contents(tmp_path) == contents(HERE / case / "out")


def test_output_depends_on_the_request_alone(tmp_path: Path) -> None:
    request = request_for("names")
    responses = {
        subprocess.run(
            [sys.executable, "-m", "protoc_plugin"],
            input=request,
            stdout=subprocess.PIPE,
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": zone},
            check=True,
        ).stdout
        for folder, seed, locale, zone in (
            (ROOT, "1", "C", "UTC"),
            (tmp_path, "2", "C.UTF-8", "Asia/Kathmandu"),
        )
    }
    assert responses == {respond(request)}


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


def test_it_supports_every_syntax_that_protoc_has() -> None:
    response = plugin_pb2.CodeGeneratorResponse.FromString(respond(b""))
    assert response.supported_features & response.FEATURE_PROTO3_OPTIONAL
    assert response.supported_features & response.FEATURE_SUPPORTS_EDITIONS
    assert response.minimum_edition == descriptor_pb2.EDITION_PROTO2
    assert response.maximum_edition == descriptor_pb2.EDITION_2024


def test_files_without_services_give_no_output() -> None:
    names = [file.name for file in response_of("packages").file]
    assert "common_protosocket.py" in names
    assert not [name for name in names if name.startswith(("reexport", "hidden"))]


def response_of(case: str, parameter: str = "") -> plugin_pb2.CodeGeneratorResponse:
    return plugin_pb2.CodeGeneratorResponse.FromString(respond(request_for(case, parameter)))


VALID = (
    "valid options: lang=python|rust, codec=protobuf|betterproto2|bytes,"
    " imports=relative|absolute, prefix=PACKAGE, installed=PROTO_OR_FOLDER, templates=FOLDER"
)


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ("codecs=bytes", f"unknown option 'codecs'; {VALID}"),
        ("codec=json", f"bad value in option 'codec=json'; {VALID}"),
        ("codec", f"bad value in option 'codec'; {VALID}"),
        ("prefix=", f"bad value in option 'prefix='; {VALID}"),
        ("codec=bytes,codec=protobuf", "option 'codec' given twice: 'bytes' and 'protobuf'"),
        ("prefix=a-b", "option 'prefix' is a dotted Python package, not 'a-b'"),
        ("prefix=a,imports=relative", "option 'prefix' goes with imports=absolute only"),
        (
            "codec=betterproto2,imports=absolute",
            "betterproto2's own imports are relative; use imports=relative or prefix=PACKAGE",
        ),
        (
            "lang=rust,codec=bytes",
            "helloworld.proto: with lang=rust, templates is the only other option",
        ),
        ("templates=nowhere", "option 'templates': 'nowhere' is no folder"),
    ],
)
def test_a_bad_option_is_one_line_from_protoc(parameter: str, error: str, tmp_path: Path) -> None:
    done = protoc(
        f"--protosocket_out={tmp_path}",
        f"--protosocket_opt={parameter}",
        "helloworld.proto",
        cwd=HELLOWORLD,
    )
    assert done.returncode == 1
    assert done.stderr == f"--protosocket_out: {error}\n"
    assert not contents(tmp_path)


def test_the_header_says_which_options() -> None:
    parameter = "imports=absolute,prefix=a.b,installed=google/rpc,installed=x.proto"
    (file,) = response_of("helloworld", parameter).file
    assert file.content.split("\n")[:3] == [
        f"# Code generated by protoc-gen-protosocket {protoc_plugin.__version__}. DO NOT EDIT.",
        "# source: helloworld.proto",
        f"# options: {parameter}",
    ]


def test_outputs_that_would_be_one_file_are_refused(tmp_path: Path) -> None:
    for name in ("a-b", "a_b"):
        (tmp_path / f"{name}.proto").write_text(
            f'syntax = "proto3"; package {name.replace("-", "x")};'
            "message M {} service S { rpc Get(M) returns (M); }"
        )
    done = protoc(f"--protosocket_out={tmp_path}", "a-b.proto", "a_b.proto", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "--protosocket_out: a_b.proto: writes a_b_protosocket.py, as a-b.proto does;"
        " rename one of them\n"
    )


def test_an_absolute_import_may_not_hide_a_module_of_python(tmp_path: Path) -> None:
    (tmp_path / "typing").mkdir()
    (tmp_path / "typing" / "a.proto").write_text(
        'syntax = "proto3"; message M {} service S { rpc Get(M) returns (M); }'
    )
    done = protoc(f"--protosocket_out=imports=absolute:{tmp_path}", "typing/a.proto", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "--protosocket_out: typing/a.proto: the folder typing/ would hide Python's own module"
        " 'typing'; use imports=relative, or prefix=PACKAGE\n"
    )
    done = protoc(f"--protosocket_out=prefix=my:{tmp_path}", "typing/a.proto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_betterproto2_messages_need_a_package(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text(
        'syntax = "proto3"; message M {} service S { rpc Get(M) returns (M); }'
    )
    done = protoc(f"--protosocket_out=codec=betterproto2:{tmp_path}", "a.proto", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "--protosocket_out: a.proto: the messages of a.proto are in no package, and betterproto2's"
        " output for that cannot be imported; give them one\n"
    )


@pytest.mark.parametrize("timeout", ["0", "-1", "inf", "nan"])
def test_a_bad_timeout_is_refused_with_its_line(timeout: str, tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text(
        'syntax = "proto3";\nimport "protosocket/options.proto";\nmessage M {}\nservice S {\n'
        f"  rpc Get(M) returns (M) {{\n    option (protosocket.method).timeout = {timeout};\n  }}\n"
        "}\n"
    )
    done = protoc(f"--protosocket_out={tmp_path}", "a.proto", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "--protosocket_out: a.proto:5:3: timeout must be positive, in seconds\n"


def test_settings_are_those_of_the_method_then_of_the_service() -> None:
    text = (HERE / "options" / "out" / "options_protosocket.py").read_text()
    settings = {
        call.args[0].value: {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
    }
    inherited = {"timeout": 2.5, "max_reply_size": 1048576}
    assert settings["/options.Defaults/Inherits"] == inherited
    assert settings["/options.Defaults/Overrides"] == {
        "timeout": 30.0,
        "max_request_size": 1024,
        "max_reply_size": 1048576,
    }
    assert settings["/options.Defaults/Reads"] == inherited | {
        "idempotency_level": "NO_SIDE_EFFECTS"
    }
    assert settings["/options.Defaults/Repeats"] == inherited | {"idempotency_level": "IDEMPOTENT"}
    assert settings["/options.Defaults/Old"] == inherited | {"deprecated": True}
    assert settings["/options.OldService/Get"] == {"deprecated": True}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        'ends with "',
        '"""',
        '"" """" "',
        "back\\slash\\",
        '\\"',
        "two\n\nlines",
        'quotes """\nand """',
        "bell \x07 nul \x00 nel \x85 separator \u2028 override \u202e bom \ufeff",
    ],
)
def test_a_docstring_is_the_text_whatever_it_is(text: str) -> None:
    literal = docstring(text, indent=4)
    lines = ast.literal_eval(literal).split("\n")
    assert [lines[0], *(line.removeprefix("    ") for line in lines[1:])] == [
        *text.split("\n"),
        *([""] if "\n" in text else []),
    ]


def test_run_by_hand_it_says_what_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "protoc_plugin", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
        check=True,
    )
    assert done.stdout.startswith(f"protoc-gen-protosocket {protoc_plugin.__version__}, a plugin")


def test_what_is_no_request_is_refused_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "protoc_plugin"],
        input=b"no request",
        capture_output=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"protoc-gen-protosocket: stdin is no request of protoc's\n"


def test_the_versions_of_plugin_and_project_agree() -> None:
    assert f'\nversion = "{protoc_plugin.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    assert protosocket_rpc.__version__ == protoc_plugin.__version__
    done = subprocess.run(
        [sys.executable, "-m", "protoc_plugin.cli", "--version"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout == f"protosocket-rpc {protoc_plugin.__version__}\n"
