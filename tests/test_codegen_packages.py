"""Every proto of packages that people use: generated, imported, served and called.

Some packages ship their .proto files; the others ship them compiled, in the descriptors of their
``_pb2`` modules, which is what protoc would hand to a plugin. Of grpcio's packages, grpcio itself
and grpcio-admin, -csds, -status and -testing have no protos of their own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, distributions
from itertools import product
from pathlib import Path

import pytest
from codegen.regenerate import CASES, HERE, options_of, protoc, serve_everything
from google.protobuf import descriptor_pb2

from protoc_plugin import generate
from protoc_plugin.compiler import compile_descriptors
from protoc_plugin.settings import Settings

pytestmark = [pytest.mark.timeout(300), pytest.mark.toolchain]

# How many protos and how many methods a package has at least.
SOURCES = {
    "googleapis-common-protos": (60, 7),
    "grpc-google-iam-v1": (4, 3),
    "grpc-interceptor": (1, 4),
}
DESCRIPTORS = {
    "authzed": (10, 20),
    "flyteidl": (40, 50),
    "grpcio-channelz": (1, 7),
    "grpcio-health-checking": (1, 2),
    "grpcio-reflection": (1, 1),
    "nucliadb-protos": (8, 20),
    "opentelemetry-proto": (8, 4),
    "protoc-gen-openapiv2": (2, 0),
}
# Prints the descriptors of modules and of all that they import, each after what it imports.
DUMP = """
import importlib, sys
from google.protobuf.descriptor_pb2 import FileDescriptorSet
found, files = set(), FileDescriptorSet()
def add(descriptor):
    if descriptor.name not in found:
        found.add(descriptor.name)
        for dependency in descriptor.dependencies:
            add(dependency)
        files.file.add().ParseFromString(descriptor.serialized_pb)
for name in sys.stdin.read().split():
    add(importlib.import_module(name).DESCRIPTOR)
sys.stdout.buffer.write(files.SerializeToString())
"""


def shipped(package: str, ending: str) -> list[str]:
    """The files of an installed package that have this ending."""
    files = distribution(package).files or []
    return sorted(file.as_posix() for file in files if file.name.endswith(ending))


@pytest.mark.parametrize("package", SOURCES)
def test_protos_of_a_package(package: str, tmp_path: Path) -> None:
    protos = shipped(package, ".proto")
    for proto in protos:
        target = tmp_path / "protos" / proto
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(distribution(package).locate_file(proto)), target)
    assert generate.main([str(tmp_path / "protos"), "--out", str(tmp_path / "gen")]) == 0
    check(tmp_path, SOURCES[package], len(protos))


@pytest.mark.parametrize("package", DESCRIPTORS)
def test_descriptors_of_a_package(package: str, tmp_path: Path) -> None:
    modules = [name.removesuffix(".py").replace("/", ".") for name in shipped(package, "_pb2.py")]
    done = subprocess.run(
        [sys.executable, "-c", DUMP],
        input=" ".join(modules).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    (tmp_path / "descriptors.pb").write_bytes(done.stdout)
    wanted = {name.removesuffix("_pb2").replace(".", "/") for name in modules}
    own = [
        proto.name
        for proto in descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file
        if proto.name.removesuffix(".proto").replace("-", "_") in wanted
    ]
    settings = Settings(out=tmp_path / "gen")
    output = compile_descriptors(tmp_path / "descriptors.pb", own, settings)
    output |= generate.new_packages(output, settings)
    generate.write_output(tmp_path / "gen", output)
    check(tmp_path, DESCRIPTORS[package], len(own))


def test_protos_of_grpcio_tools(tmp_path: Path) -> None:
    """protobuf brings modules for most: each message is the request and reply of methods."""
    root = Path(str(distribution("grpcio-tools").locate_file("grpc_tools/_proto")))
    protos = sorted(path.relative_to(root).as_posix() for path in root.glob("**/*.proto"))
    done = protoc(
        f"-I{root}", "--descriptor_set_out=/dev/stdout", *protos, cwd=tmp_path, text=False
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file
    messages = [
        f"{file.package}.{name}" for file in files for name in message_names(file.message_type)
    ]
    imports = "".join(f'import "{proto}";' for proto in protos)
    rpcs = "".join(
        f"rpc R{number}_{kind}({requests} {each}) returns ({replies} {each});"
        for number, each in enumerate(messages)
        for kind, (requests, replies) in enumerate(product(("", "stream"), repeat=2))
    )
    (tmp_path / "protos").mkdir()
    (tmp_path / "protos" / "all.proto").write_text(
        f'syntax = "proto3"; package all; {imports} service All {{ {rpcs} }}'
    )
    assert generate.main([str(tmp_path / "protos"), "--out", str(tmp_path / "gen")]) == 0
    _, methods = serve_everything(tmp_path)
    assert methods == 4 * len(messages)
    assert len(protos) >= 12
    assert len(messages) >= 60


def message_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> Iterator[str]:
    """The names of messages and of those inside of them, but for the entries of maps."""
    for message in messages:
        if not message.options.map_entry:
            yield message.name
            yield from (f"{message.name}.{name}" for name in message_names(message.nested_type))


def test_every_package_of_grpcio_is_among_them() -> None:
    """Those that are installed here, and whatever else has `grpcio-` in its name."""
    with_protos = {
        each.name
        for each in distributions()
        if each.name.startswith("grpcio")
        and any(file.name.endswith((".proto", "_pb2.py")) for file in each.files or ())
    }
    assert with_protos - {"grpcio-tools"} == {name for name in DESCRIPTORS if "grpcio" in name}
    assert "grpcio-tools" in with_protos


def check(folder: Path, expected: tuple[int, int], protos: int) -> None:
    modules, methods = serve_everything(folder)
    assert protos >= expected[0]
    assert modules >= protos
    assert methods >= expected[1]


@pytest.mark.parametrize("case", [case for case in CASES if "absolute" not in options_of(case)])
def test_cases(case: str, tmp_path: Path) -> None:
    """Every odd name imports, and is served and called."""
    words = dict(word.split("=") for word in options_of(case).split(",") if word)
    for name in ("installed", "lang"):
        words.pop(name, None)
    if "prefix" in words:
        words["prefix"] = "gen"
    arguments = [f"--{name}={value}" for name, value in words.items()]
    assert generate.main([str(HERE / case), "--out", str(tmp_path / "gen"), *arguments]) == 0
    _, methods = serve_everything(tmp_path)
    assert methods
