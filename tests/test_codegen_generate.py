"""``protosocket generate``: from protos to a package, whatever lies where."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from codegen.regenerate import HERE, ROOT

from protoc_plugin import generate

GREETER = """\
syntax = "proto3";
package acme.v1;
import "acme/v1/types.proto";
service Greeter { rpc Greet(Name) returns (Name); }
"""
TYPES = 'syntax = "proto3"; package acme.v1; message Name { string text = 1; }\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two protos in protos/, which is the working directory."""
    write(tmp_path, {"protos/acme/v1/greeter.proto": GREETER, "protos/acme/v1/types.proto": TYPES})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def tree(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.glob("**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run_python(code: str, path: Path) -> None:
    """Runs code in a process of its own, with a folder as the only addition to its path."""
    env = {"PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, cwd="/", check=True)


def test_a_folder_becomes_a_package(project: Path) -> None:
    assert generate.main(["protos", "--out", "src/gen"]) == 0
    assert tree(project / "src") == {
        "gen/__init__.py",
        "gen/acme/__init__.py",
        "gen/acme/v1/__init__.py",
        "gen/acme/v1/greeter_pb2.py",
        "gen/acme/v1/greeter_pb2.pyi",
        "gen/acme/v1/greeter_protosocket.py",
        "gen/acme/v1/types_pb2.py",
        "gen/acme/v1/types_pb2.pyi",
    }


def test_a_file_brings_what_it_imports(project: Path) -> None:
    arguments = ["protos/acme/v1/greeter.proto", "-I", "protos", "--out", "gen"]
    assert generate.main(arguments) == 0
    assert "acme/v1/types_pb2.py" in tree(project / "gen")


def test_a_file_may_be_named_from_where_imports_are(project: Path) -> None:
    """As with protoc."""
    (project / "other").mkdir()
    arguments = ["-I", "other", "-I", "protos", "acme/v1/greeter.proto", "--out", "gen"]
    assert generate.main(arguments) == 0
    assert "acme/v1/greeter_protosocket.py" in tree(project / "gen")


@pytest.mark.parametrize(
    "protos",
    [["protos"], ["protos/b.proto"], ["protos/b.proto", "-I", "protos"], ["b.proto", "-I", "link"]],
)
def test_a_link_is_a_proto_where_it_lies(project: Path, protos: list[str]) -> None:
    write(project, {"elsewhere/a.proto": 'syntax = "proto3"; message A {}'})
    (project / "protos" / "b.proto").symlink_to(project / "elsewhere" / "a.proto")
    (project / "link").symlink_to(project / "protos")
    assert generate.main([*protos, "--out", "gen"]) == 0
    assert "b_pb2.py" in tree(project / "gen")


def test_a_root_may_lie_above_where_one_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then the protos, named from here, are still found below it."""
    monkeypatch.chdir(project / "protos" / "acme" / "v1")
    arguments = ["greeter.proto", "-I", "../..", "--out", "../../../gen"]
    assert generate.main(arguments) == 0
    assert "acme/v1/greeter_protosocket.py" in tree(project / "gen")


def test_hidden_folders_and_environments_are_not_looked_into(project: Path) -> None:
    """There lie the protos of others, and what was generated from them."""
    write(project, {".venv/lib/x.proto": TYPES, "protos/.cache/x.proto": TYPES})
    write(project, {"env/pyvenv.cfg": "", "env/lib/x.proto": TYPES})
    assert generate.main(["protos/acme/v1/types.proto", "--out", "env/lib/other"]) == 0
    theirs = tree(project / "env")
    assert generate.main([".", "-I", "protos", "--out", ".", "--clean"]) == 0
    assert tree(project / "env") == theirs
    assert not [name for name in tree(project) if name.endswith("x_pb2.py")]


def test_what_lies_in_the_output_may_be_in_any_encoding(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["protos", "--out", "gen"]) == 0
    (project / "gen" / "mine.py").write_bytes(b"# coding: latin-1\n# caf\xe9\n")
    stale = project / "gen" / "acme" / "v1" / "types_pb2.pyi"
    stale.write_bytes(b"caf\xe9\n")
    assert generate.main(["protos", "--out", "gen", "--clean", "--check"]) == 1
    assert "-caf\\xe9\n" in capsys.readouterr().out
    assert generate.main(["protos", "--out", "gen", "--clean"]) == 0
    assert "class Name" in stale.read_text()
    assert (project / "gen" / "mine.py").exists()


def test_a_folder_and_a_link_to_it_are_the_same(project: Path) -> None:
    (project / "link").symlink_to(project / "protos")
    assert generate.main(["protos/acme/v1/types.proto", "-I", "link", "--out", "gen"]) == 0
    assert "acme/v1/types_pb2.py" in tree(project / "gen")


def test_the_folder_of_a_file_is_where_its_imports_are(project: Path) -> None:
    write(project, {"protos/one.proto": 'syntax = "proto3"; import "acme/v1/types.proto";'})
    assert generate.main(["protos/one.proto", "--out", "gen"]) == 0
    assert {"one_pb2.py", "acme/v1/types_pb2.py"} <= tree(project / "gen")


@pytest.mark.parametrize(
    ("arguments", "out", "module"),
    [
        ([], "src/my/gen", "my.gen.acme.v1"),
        (["--imports", "absolute"], "src", "acme.v1"),
        (["--prefix", "my.gen"], "src/my/gen", "my.gen.acme.v1"),
    ],
)
def test_messages_import_each_other_as_asked(
    project: Path, arguments: list[str], out: str, module: str
) -> None:
    assert generate.main(["protos", "--out", out, *arguments]) == 0
    code = f"from {module} import greeter_pb2 as m; assert m.DESCRIPTOR.dependencies"
    run_python(code, project / "src")


@pytest.mark.parametrize("imports", ["relative", "absolute"])
def test_odd_names_import(project: Path, imports: str) -> None:
    out = project / "src" / "gen" if imports == "relative" else project / "src"
    assert generate.main([str(HERE / "files"), "--out", str(out), "--imports", imports]) == 0
    package = "gen." if imports == "relative" else ""
    modules = ["my_service_pb2", "2fa_pb2", "class.types_pb2", "import.user_pb2", "with.dots_pb2"]
    code = "import importlib\n" + "".join(
        f"importlib.import_module('{package}{module}')\n" for module in modules
    )
    run_python(code, project / "src")


def test_public_imports_of_odd_names_import(project: Path) -> None:
    write(
        project,
        {
            "odd/class/a.proto": 'syntax = "proto3"; message A {}',
            "odd/b.proto": 'syntax = "proto3"; import public "class/a.proto";'
            "message B { A a = 1; }",
        },
    )
    assert generate.main(["odd", "--out", "src/gen"]) == 0
    run_python("from gen import b_pb2; b_pb2.B(a=b_pb2.A())", project / "src")


def test_betterproto2_messages_have_the_names_that_services_use(project: Path) -> None:
    case = HERE / "betterproto2"
    assert generate.main([str(case), "--out", "src/gen", "--codec", "betterproto2"]) == 0
    code = (
        "from gen.acme.v1 import HelloRequest, OuterHttpReply2Xx\n"
        "from gen.other import SnakeCase\nfrom gen.google.protobuf import Timestamp\n"
        "assert HelloRequest.FromString(HelloRequest(name='x').SerializeToString()).name == 'x'"
    )
    run_python(code, project / "src")


def test_installed_protos_are_imported_not_generated(project: Path) -> None:
    write(
        project,
        {
            "p/a.proto": 'syntax = "proto3"; import "google/rpc/status.proto";'
            'import "google/api/annotations.proto"; import "google/protobuf/empty.proto";'
            "message A { google.rpc.Status status = 1; google.protobuf.Empty empty = 2; }"
        },
    )
    assert generate.main(["p", "--out", "src/gen"]) == 0
    assert tree(project / "src" / "gen") == {"__init__.py", "a_pb2.py", "a_pb2.pyi"}
    run_python("from gen import a_pb2; a_pb2.A().status.code", project / "src")


FEATURES = """\
edition = "2023";
import "google/protobuf/cpp_features.proto";
option features.(pb.cpp).string_type = VIEW;
message A {}
service Service { rpc Get(A) returns (pb.CppFeatures); }
"""


@pytest.mark.parametrize("arguments", [[], ["--prefix", "gen"]])
def test_protos_of_google_that_protobuf_has_no_modules_for_are_generated(
    project: Path, arguments: list[str]
) -> None:
    write(project, {"p/a.proto": FEATURES})
    assert generate.main(["p", "--out", "src/gen", *arguments]) == 0
    assert "google/protobuf/cpp_features_pb2.py" in tree(project / "src" / "gen")
    assert "google/protobuf/descriptor_pb2.py" not in tree(project / "src" / "gen")
    code = "from gen import a_pb2, a_protosocket; assert a_pb2.DESCRIPTOR.dependencies"
    run_python(code, project / "src")


def test_a_folder_that_would_hide_protobuf_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"p/a.proto": FEATURES})
    assert generate.main(["p", "--out", "src", "--imports", "absolute"]) == 1
    assert capsys.readouterr().err == (
        "protosocket generate: a.proto: the folder google/protobuf/ would hide Python's own module"
        " 'google.protobuf'; use imports=relative, or prefix=PACKAGE\n"
    )
    assert not (project / "src").exists()


def test_the_options_of_this_project_are_found_and_generated(project: Path) -> None:
    assert generate.main([str(HERE / "options"), "--out", "src/gen"]) == 0
    assert "protosocket/options_pb2.py" in tree(project / "src" / "gen")
    run_python("from gen import options_pb2", project / "src")


def test_absolute_imports_leave_googles_namespace_open(project: Path) -> None:
    write(project, {"p/google/mine/a.proto": 'syntax = "proto3"; message A {}'})
    assert generate.main(["p", "--out", "src", "--imports", "absolute"]) == 0
    assert "google/__init__.py" not in tree(project / "src")
    run_python("import google.mine.a_pb2, google.protobuf.message", project / "src")


def test_a_second_run_changes_nothing(project: Path) -> None:
    assert generate.main(["protos", "--out", "gen"]) == 0
    before = {path: path.stat().st_mtime_ns for path in (project / "gen").glob("**/*")}
    (project / "gen" / "__init__.py").write_text("# mine\n")
    assert generate.main(["protos", "--out", "gen"]) == 0
    after = {path: path.stat().st_mtime_ns for path in (project / "gen").glob("**/*")}
    assert {path for path in after if after[path] != before.get(path)} <= {
        project / "gen" / "__init__.py"
    }
    assert (project / "gen" / "__init__.py").read_text() == "# mine\n"


def test_check_prints_what_would_change(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["protos", "--out", "gen"]
    assert generate.main([*arguments, "--check"]) == 1
    assert not (project / "gen").exists()
    assert "--- /dev/null\n+++ gen/acme/v1/greeter_pb2.py\n" in capsys.readouterr().out
    assert generate.main(arguments) == 0
    assert generate.main([*arguments, "--check"]) == 0
    assert capsys.readouterr().out == ""

    proto = project / "protos" / "acme" / "v1" / "greeter.proto"
    proto.write_text(GREETER.replace("service", "// Greets.\nservice"))
    assert generate.main([*arguments, "--check"]) == 1
    shown = capsys.readouterr().out
    assert "+++ gen/acme/v1/greeter_protosocket.py" in shown
    assert '\n+    """Greets."""\n' in shown
    (project / "gen" / "acme" / "__init__.py").unlink()
    assert generate.main([*arguments, "--check"]) == 1
    assert "gen/acme/__init__.py is missing\n" in capsys.readouterr().out


def test_a_diff_is_one_for_patch_where_a_file_does_not_end_with_a_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"templates/{file}.txt.j2": "one\ntwo"})
    arguments = ["protos", "--out", "gen", "--templates", "templates"]
    assert generate.main(arguments) == 0
    write(project, {"gen/acme/v1/greeter.txt": "one\n2"})
    assert generate.main([*arguments, "--check"]) == 1
    end = "\n\\ No newline at end of file\n"
    assert capsys.readouterr().out.endswith(f" one\n-2{end}+two{end}")


def test_stale_files_go_when_told_to(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["protos", "--out", "gen"]) == 0
    write(project, {"gen/mine_pb2.py": "# written by hand\n", "gen/mine.py": "\n"})
    elsewhere = "# Generated by the protocol buffer compiler.  DO NOT EDIT!\n"
    write(project, {"gen/acme/other_pb2.py": elsewhere})  # by another command, for another proto
    (project / "protos" / "acme" / "v1" / "greeter.proto").unlink()
    stale = {f"acme/v1/greeter_{end}" for end in ("pb2.py", "pb2.pyi", "protosocket.py")}
    before = tree(project / "gen")
    assert generate.main(["protos", "--out", "gen"]) == 0
    assert tree(project / "gen") == before
    assert generate.main(["protos", "--out", "gen", "--clean", "--check"]) == 1
    assert "--- gen/acme/v1/greeter_protosocket.py\n+++ /dev/null\n" in capsys.readouterr().out
    assert generate.main(["protos", "--out", "gen", "--clean"]) == 0
    assert tree(project / "gen") == before - stale


def test_a_package_goes_with_the_last_of_its_files(project: Path) -> None:
    write(project, {"protos/b/c/d.proto": TYPES.replace("acme", "bcd")})
    assert generate.main(["protos", "--out", "gen"]) == 0
    write(project, {"gen/b/__init__.py": "# mine"})
    shutil.rmtree(project / "protos" / "b")
    assert generate.main(["protos", "--out", "gen", "--clean"]) == 0
    assert not (project / "gen" / "b" / "c").exists()
    assert (project / "gen" / "b" / "__init__.py").read_text() == "# mine"


def test_settings_live_in_pyproject(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        project,
        {
            "pyproject.toml": '[tool.protosocket]\nprotos = ["protos"]\nout = "src/my/gen"\n'
            'prefix = "my.gen"\ntemplates = "templates"\n',
            "templates/{file}_names.txt.j2": "{{ file.package }} {{ parameter }}",
            "below/x": "",
        },
    )
    monkeypatch.chdir(project / "below")
    assert generate.main([]) == 0
    names = project / "src" / "my" / "gen" / "acme" / "v1" / "greeter_names.txt"
    assert names.read_text() == "acme.v1 prefix=my.gen,templates=templates"
    text = (names.parent / "greeter_protosocket.py").read_text()
    assert "from my.gen.acme.v1 import types_pb2 as _types_pb2\n" in text
    assert generate.main(["--prefix", "other", "--out", "gen"]) == 0
    assert (
        "from other.acme.v1 import"
        in (project / "below" / "gen" / "acme" / "v1" / "greeter_protosocket.py").read_text()
    )


@pytest.mark.parametrize(
    ("table", "error"),
    [
        (
            "protoss = []",
            "protoss: unknown; valid settings: protos, include, out, clean, imports, prefix,"
            " codec, templates",
        ),
        ('protos = "a"', "protos: must be a list of paths"),
        ("protos = [1]", "protos: must be a list of paths"),
        ("clean = 1", "clean: must be true or false"),
        ("out = true", "out: must be a string"),
    ],
)
def test_a_bad_setting_is_one_line(
    project: Path, table: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "pyproject.toml"
    path.write_text(f"[tool.protosocket]\n{table}\n")
    assert generate.main(["protos"]) == 1
    assert capsys.readouterr().err == (
        f"protosocket generate: {path}: [tool.protosocket] {error}\n"
    )


def test_settings_that_are_no_table_are_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = project / "pyproject.toml"
    path.write_text("[tool]\nprotosocket = 3\n")
    assert generate.main(["protos"]) == 1
    assert capsys.readouterr().err == (
        f"protosocket generate: {path}: [tool.protosocket] must be a table\n"
    )
    path.write_text("tool = 3\n")  # not ours
    assert generate.main(["protos", "--out", "gen"]) == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "which .proto files? Name files or folders, or set 'protos'"),
        (["protos"], "where to? Give --out DIR, or set 'out'"),
        (["nowhere", "--out", "gen"], "{project}/nowhere: no such file or folder"),
        (["empty", "--out", "gen"], "{project}/empty: no .proto file in this folder"),
        (["protos", "--out", "gen", "-I", "no"], "-I {project}/no: no such folder"),
        (
            ["protos/acme/v1/types.proto", "--out", "gen", "-I", "empty"],
            "{project}/protos/acme/v1/types.proto: in none of the folders given with -I",
        ),
        (
            ["protos", "--out", "gen", "--codec", "json"],
            "bad value in option 'codec=json'; valid options:",
        ),
    ],
)
def test_a_bad_argument_is_one_line(
    project: Path, arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "empty").mkdir()
    assert generate.main(arguments) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"protosocket generate: {error.format(project=project)}")
    assert shown.count("\n") == 1


@pytest.mark.parametrize("mode", [[], ["--check"], ["--clean"]])
def test_an_output_folder_that_is_a_file(
    project: Path, mode: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"gen": "a file of the user's"})
    assert generate.main(["protos", "--out", "gen", *mode]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("protosocket generate: [Errno 20] Not a directory: 'gen/")
    assert shown.count("\n") == 1
    assert (project / "gen").read_text() == "a file of the user's"


def test_errors_in_a_proto_are_protocs_own(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proto = project / "protos" / "acme" / "v1" / "greeter.proto"
    proto.write_text(GREETER.replace("(Name)", "(Nme)", 1))
    assert generate.main(["protos", "--out", "gen"]) == 1
    assert capsys.readouterr().err == ('protos/acme/v1/greeter.proto:4:29: "Nme" is not defined.\n')
    assert not (project / "gen").exists()


def test_warnings_are_protocs_own_and_come_once(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, {"p/a.proto": 'syntax = "proto3"; import "google/protobuf/empty.proto";'})
    assert generate.main(["p", "--out", "gen"]) == 0
    shown = capsys.readouterr().err
    assert shown.startswith("p/a.proto:1:20: warning: Import google/protobuf/empty.proto is unused")
    assert shown.count("\n") == 1


def test_watching_writes_anew_when_a_proto_or_a_template_changes(project: Path) -> None:
    write(project, {"templates/{file}.txt.j2": "one"})
    arguments = ["generate", "protos", "--out=gen", "--templates=templates", "--watch"]
    with subprocess.Popen(
        [sys.executable, "-m", "protoc_plugin.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        try:
            assert "written to gen" in process.stdout.readline()
            proto = project / "protos" / "acme" / "v1" / "greeter.proto"
            proto.write_text(GREETER.replace("service", "// Greets.\nservice"))
            assert "written to gen" in process.stdout.readline()
            folder = project / "gen" / "acme" / "v1"
            assert '"""Greets."""' in (folder / "greeter_protosocket.py").read_text()
            assert (folder / "greeter.txt").read_text() == "one"
            write(project, {"templates/{file}.txt.j2": "another"})
            assert "written to gen" in process.stdout.readline()
            assert (folder / "greeter.txt").read_text() == "another"
            proto.write_text('syntax = "proto3";\nnonsense')
            assert "greeter.proto:2:1: " in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == ""
            assert process.wait() == 0
        finally:
            process.kill()


def test_watching_what_is_not_there_says_so_once_and_goes_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "protos").rename(project / "away")
    turns = iter(range(4))

    def sleep(seconds: float) -> None:
        turn = next(turns, None)
        if turn == 2:
            (project / "away").rename(project / "protos")
        if turn is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(generate.time, "sleep", sleep)
    assert generate.main(["protos", "--out", "gen", "--watch"]) == 0
    shown = capsys.readouterr()
    assert shown.err == f"protosocket generate: {project}/protos: no such file or folder\n"
    assert shown.out.count("written to gen") == 1


def test_the_command_does_not_import_the_runtime() -> None:
    code = (
        "import sys; from protoc_plugin.cli import main; sys.argv[1:] = ['generate', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "sys.exit('asyncio' in sys.modules or 'protosocket_rpc' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
