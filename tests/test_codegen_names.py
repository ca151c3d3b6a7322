"""Names that Python has other ideas about: each works, or is refused with one line."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from codegen.regenerate import protoc, serve_everything

from protoc_plugin import generate

# What this Python keeps for itself, in all places or in some, and its builtins.
WORDS = sorted(
    {*keyword.kwlist, "match", "case", "type", "_", *filter(str.isidentifier, dir(builtins))}
)
# What classes have, and what the generated module has.
ATTRIBUTES = [
    "__init__",
    "__new__",
    "__call__",
    "__getattr__",
    "__setattr__",
    "__slots__",
    "__dict__",
    "__module__",
    "__class__",
    "__annotations__",
    "__await__",
    "__init_subclass__",
    "__class_getitem__",
    "__protosocket_service__",
    "__x",
    "_S__x",
    "mro",
    "self",
    "request",
    "request_iterator",
    "context",
    "options",
    "channel",
    "server",
    "servicer",
    "Close",
    "close",
    "_close",
    "_channel",
    "Get",
    "get",
    "_get",
    "_Get",
    "GET",
    "GEt",
    "get_",
    "__get",
    "_S_GET",
    "S",
    "S_",
    "SStub",
    "SServicer",
    "add_SServicer_to_server",
    "annotations",
    "_all_pb2",
    "all_pb2",
    "_abc",
    "_importlib",
    "_protosocket",
    "_typing",
    "_Unpack",
    "TYPE_CHECKING",
    "__all__",
]
MODULES = [
    "_sym_db",
    "_builder",
    "_descriptor_pool",
    "_symbol_database",
    "_runtime_version",
    "DESCRIPTOR",
    "Union",
    "_Union",
    "Mapping",
    "_Mapping",
    "Optional",
    "Iterable",
    "ClassVar",
    "_ClassVar",
    "__",
    "___",
    "__Private",
    "M",
    "S",
    "SStub",
    "SServicer",
]
# What is used as a message's class, which messages inside it must leave alone, and what they may.
INNER = ["class", "None", "M", "_", "__Inner", "Clear", "CopyFrom", "HasField", "Extensions", "mro"]


def proto(text: str) -> str:
    return f'syntax = "proto3"; package odd;\n{text}\n'


def service(name: str, methods: Iterable[str], message: str = "odd.Msg") -> str:
    rpcs = "".join(f"  rpc {each}({message}) returns ({message});\n" for each in methods)
    return f"service {name} {{\n{rpcs}}}\n"


def write(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def serve(folder: Path, files: dict[str, str]) -> int:
    """Generates, imports, serves and calls; returns how many methods there are."""
    write(folder / "protos", files)
    assert generate.main([str(folder / "protos"), "--out", str(folder / "gen")]) == 0
    _, methods = serve_everything(folder)
    return methods


def test_methods(tmp_path: Path) -> None:
    names = [*WORDS, *ATTRIBUTES]
    text = proto("message Msg {}\n" + service("S", names))
    assert serve(tmp_path, {"all.proto": text}) == len(names)


def test_services(tmp_path: Path) -> None:
    names = [*WORDS, *(name for name in ATTRIBUTES if name != "S__x")]
    text = proto("message Msg {}\n" + "".join(service(each, ["Get", "get"]) for each in names))
    assert serve(tmp_path, {"all.proto": text}) == 2 * len(names)


def test_messages(tmp_path: Path) -> None:
    names = [name for name in (*WORDS, *MODULES) if not name.endswith("__") or not name.strip("_")]
    text = "".join(
        f"message {name} {{ int32 def = 1; {''.join(f'message {each} {{}} ' for each in INNER)} }}"
        for name in names
    )
    methods = [f"odd.{name}{inner}" for name in names for inner in ("", ".class")]
    methods += [f"odd.M.{inner}" for inner in INNER]
    text += "service Service {" + "".join(
        f"rpc R{number}({name}) returns ({name});\n" for number, name in enumerate(methods)
    )
    assert serve(tmp_path, {"all.proto": proto(text + "}")}) == len(methods)


def test_fields_enums_and_extensions(tmp_path: Path) -> None:
    """They are protobuf's own matter, but a stub that names them has to be Python."""
    text = """
        syntax = "proto2"; package odd;
        message Msg {
          optional int32 class = 1; optional string self = 2; repeated Msg import = 3;
          map<string, Msg> def = 4; oneof lambda { int32 x = 5; Msg None = 6; }
          optional int32 DESCRIPTOR = 7; optional int32 SerializeToString = 8;
          optional string __init__ = 9; optional bytes __dict__ = 10; optional kind __class__ = 11;
          enum kind { pass = 0; del = 1; } extensions 100 to 200;
          message await { extend Msg { optional Msg async = 100; } }
        }
        enum class { True = 0; False = 1; }
        extend Msg { optional int32 or = 101; optional Msg and = 102; }
    """
    assert serve(tmp_path, {"all.proto": text + service("S", ["Get"])}) == 1


@pytest.mark.parametrize(
    "names",
    [
        "asyncio/a typing/t google/g collections/abc protosocket_rpc/x protosocket/y uvloop/z"
        " collections typing asyncio builtins google sys importlib",
        "import/a class/a None/c async/d class import match/x type print self a/import/b/class/c",
        "2fa 3d/4e v1.2/a a.b.c a-b/c-d _ __ 0",
        "grüße 日本/語 ﬁle file Ⅷ ”",
        "__init__ __main__ a/__init__ __init__/b a_pb2 a_pb2_pb2 a_protosocket init",
        'a+b a(b) a&b a$b a%b a#b a@b @c a,b a=b a~b a[b] a{b} a"b',
        "A B a/A Proto proto pb2 con aux/nul",
    ],
)
def test_files(names: str, tmp_path: Path) -> None:
    """Each has a service and a message, which another file uses in every way, and passes on."""
    files = [f"{name}.proto" for name in (*names.split(), "with space", "with space/with space")]
    texts = {
        file: f'syntax = "proto3"; package p{number}; message M {{}} enum E {{ P{number} = 0; }}'
        + service("S", ["Get"], "M")
        for number, file in enumerate(files)
    }
    imports = "".join(f"import public '{file}';\n" for file in files)
    numbers = range(len(files))
    fields = "".join(f"p{n}.M m{n} = {2 * n + 1}; p{n}.E e{n} = {2 * n + 2};" for n in numbers)
    rpcs = "".join(f"rpc R{n}(p{n}.M) returns (All);" for n in numbers)
    texts["all.proto"] = proto(f"{imports}message All {{ {fields} }} service All_ {{ {rpcs} }}")
    texts["user.proto"] = proto("import 'all.proto'; service User { rpc Get(p0.M) returns (All); }")
    assert serve(tmp_path, texts) == 2 * len(files) + 1


REFUSED_NAME = "protobuf's Python needs the name of odd.{} for itself; rename it"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("message _descriptor {}", "_descriptor"),
        ("message _globals {}", "_globals"),
        ("enum _globals { A = 0; }", "_globals"),
        ("enum E { _descriptor = 0; }", "_descriptor"),
        ("message __dict__ {}", "__dict__"),
        ("message M { message N { message __class__ {} } }", "M.N.__class__"),
        ("message M { message DESCRIPTOR {} }", "M.DESCRIPTOR"),
        ("message M { message N { message FromString {} } }", "M.N.FromString"),
        ("message M { message SerializeToString {} }", "M.SerializeToString"),
    ],
)
def test_messages_that_cannot_be(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "all.proto").write_text(proto(text))
    done = protoc(f"--protosocket_out={tmp_path}", "all.proto", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"--protosocket_out: all.proto: {REFUSED_NAME.format(name)}\n"


@pytest.mark.parametrize("file", ["it's", ".hidden", "a..b", "a.", "-x"])
def test_files_that_cannot_be(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "protos" / f"{file}.proto"
    path.parent.mkdir(parents=True)
    path.write_text(proto("message M {}"))
    assert generate.main([str(tmp_path / "protos"), "--out", str(tmp_path / "gen")]) == 1
    assert capsys.readouterr().err == (
        f"protosocket generate: {file}.proto: protoc's Python for a file of this name cannot be"
        " imported; rename it\n"
    )


@pytest.mark.parametrize("folder", ["a/x_pb2", "a/x_pb2/c/d", "a/x_protosocket"])
def test_folders_that_cannot_be(folder: str, tmp_path: Path) -> None:
    texts = {"a/x.proto": proto("service S {}"), f"{folder}/b.proto": proto("")}
    write(tmp_path, texts)
    done = protoc(f"--protosocket_out={tmp_path}", *texts, cwd=tmp_path)
    assert done.stderr == (
        f"--protosocket_out: {folder}/b.proto: its folder {'/'.join(folder.split('/')[:2])}/ would"
        " hide the module of a/x.proto; rename one of them\n"
    )


def test_a_folder_may_be_named_as_a_module_that_there_is_not(tmp_path: Path) -> None:
    texts = {"x.proto": proto("message M {}"), "x_protosocket/b.proto": proto("")}
    write(tmp_path, texts)
    assert protoc(f"--protosocket_out={tmp_path}", *texts, cwd=tmp_path).stderr == ""


def test_methods_in_rust(tmp_path: Path) -> None:
    """A client has a ``new`` already; names that differ in their case only would be the same."""
    names = ["New", "Fn", "fn", "GetAll", "get_all"]
    rpcs = "".join(f"rpc {name}(Msg) returns (stream Msg);" for name in names)
    write(tmp_path, {"a.proto": proto(f"message Msg {{}} service S {{ {rpcs} }}")})
    done = protoc(f"--protosocket_out=lang=rust:{tmp_path}", "a.proto", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "a_protosocket.rs").read_text()
    trait = text[text.index("pub trait") : text.index("pub struct")]
    assert re.findall(r"type (\w+):", trait) == [
        *("NewStream", "FnStream", "FnStream_", "GetAllStream", "GetAllStream_")
    ]
    assert re.findall(r"fn ([\w#]+)\(", trait) == ["new_", "r#fn", "r#fn_", "get_all", "get_all_"]
