"""Runs protoc for messages and this plugin for services, into one tree held in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from google.protobuf import descriptor_pb2

from protoc_plugin.errors import GenerationError
from protoc_plugin.main import generate
from protoc_plugin.messages import modules_of, relocate, relocate_stub
from protoc_plugin.options import Options
from protoc_plugin.render import check_python, shipped
from protoc_plugin.settings import Settings
from protoc_plugin.stubs import tidy_stub

_WELL_KNOWN = "google/protobuf/"


class ProtocError(Exception):
    """protoc refused; the text is what it said, file and line first."""


@dataclass(frozen=True)
class Inputs:
    """Protos to compile, and the folders that imports are looked for in, first."""

    files: tuple[Path, ...]
    roots: tuple[Path, ...]


def find_inputs(protos: Sequence[Path], include: Sequence[Path]) -> Inputs:
    """The .proto files named, and those in the folders named.

    Without ``include``, the folders named and those of the files named are the roots; of two
    roots, one inside the other, the outer one counts.

    Raises:
        GenerationError: a path is not there, holds no proto, or is outside of every root.
    """
    files: list[Path] = []
    folders: list[Path] = []
    for path in (path.resolve() for path in protos):
        if path.is_dir():
            found = sorted(path.glob("**/*.proto"))
            if not found:
                raise GenerationError(f"{path}: no .proto file in this folder")
            files += found
            folders.append(path)
        elif path.is_file():
            files.append(path)
            folders.append(path.parent)
        else:
            raise GenerationError(f"{path}: no such file or folder")
    roots = [path.resolve() for path in include]
    for root in roots:
        if not root.is_dir():
            raise GenerationError(f"-I {root}: no such folder")
    if not roots:
        roots = [
            folder
            for folder in dict.fromkeys(folders)
            if not any(other in folder.parents for other in folders)
        ]
    names: dict[str, Path] = {}
    for file in dict.fromkeys(files):
        around = [root for root in roots if root in file.parents]
        if not around:
            raise GenerationError(f"{file}: in none of the folders given with -I")
        name = file.relative_to(around[0]).as_posix()
        if name in names:
            raise GenerationError(f"{file}: {names[name]} has the same name, {name}")
        names[name] = file
    return Inputs(tuple(names[name] for name in sorted(names)), tuple(roots))


def compile_protos(inputs: Inputs, settings: Settings) -> dict[str, str]:
    """Everything that the protos give: names of files, relative to the output, and their texts.

    Protos that they import are compiled too, except those that an installed package brings with
    their modules, as googleapis-common-protos does.

    Raises:
        ProtocError, GenerationError: nothing is written then.
    """
    with tempfile.TemporaryDirectory() as folder:
        descriptors = Path(folder) / "descriptors.pb"
        warnings = _protoc(
            descriptors.parent,
            *(f"-I{_shown(root)}" for root in (*inputs.roots, *_extra_roots())),
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={descriptors}",
            *map(_shown, inputs.files),
        )
        sys.stderr.write(warnings)
        protos = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
        own = [proto.name for proto in protos if not _is_installed(proto.name, inputs.roots)]
        return compile_descriptors(descriptors, own, settings)


def compile_descriptors(descriptors: Path, own: list[str], settings: Settings) -> dict[str, str]:
    """As compile_protos(), from a FileDescriptorSet; it is complete, and ``own`` are to be written.

    The folder of the descriptors is where protoc's output is put for a while.
    """
    protos = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes()).file
    installed = {proto.name for proto in protos}.difference(own)
    options = replace(settings.options, installed=tuple(sorted(installed)))
    output = generate(protos, own, options, settings.parameter)
    if options.codec != "bytes":
        messages = descriptors.parent / "messages"
        messages.mkdir()
        protoc_messages = _google if options.codec == "protobuf" else _betterproto2
        output |= protoc_messages(descriptors, messages, own, options)
    return output


def _google(descriptors: Path, folder: Path, protos: list[str], options: Options) -> dict[str, str]:
    """The messages as protoc itself writes them."""
    _protoc(
        descriptors.parent,
        f"--descriptor_set_in={descriptors}",
        f"--python_out={folder}",
        f"--pyi_out={folder}",
        *protos,
    )
    modules = modules_of(protos)
    output: dict[str, str] = {}
    for module, proto in modules.items():
        name = module.replace(".", "/")
        text = (folder / f"{name}.py").read_text("utf-8")
        output[f"{name}.py"] = relocate(proto, text, modules, options)
        check_python(f"{name}.py", output[f"{name}.py"], "protoc")
        stub = (folder / f"{name}.pyi").read_text("utf-8")
        output[f"{name}.pyi"] = tidy_stub(relocate_stub(proto, stub, modules, options))
    return output


def _betterproto2(
    descriptors: Path, folder: Path, protos: list[str], options: Options
) -> dict[str, str]:
    """The messages as betterproto2_compiler writes them."""
    if find_spec("betterproto2_compiler") is None:
        raise GenerationError("codec=betterproto2: pip install betterproto2 betterproto2-compiler")
    _protoc(
        descriptors.parent,
        f"--descriptor_set_in={descriptors}",
        f"--python_betterproto2_out={folder}",
        "--python_betterproto2_opt=client_generation=none",
        *protos,
    )
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in sorted(folder.glob("**/*"))
        if path.is_file()
    }


def _protoc(folder: Path, *arguments: str) -> str:
    """Runs grpcio-tools' protoc, and returns what it said."""
    if find_spec("grpc_tools") is None:
        raise GenerationError("protoc is missing: pip install protosocket-rpc[codegen]")
    # Thousands of files are more than a command line takes.
    argument_file = folder / "arguments.txt"
    argument_file.write_text("\n".join(arguments), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"@{argument_file}"],
        stdin=subprocess.DEVNULL,
        # Plugins, and what they run, are beside the interpreter.
        env=os.environ
        | {
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
            )
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise ProtocError(done.stderr.strip() or f"protoc: exit code {done.returncode}")
    return done.stderr


def _shown(path: Path) -> str:
    """A path as protoc's errors are to show it."""
    folder = Path.cwd()
    return str(path.relative_to(folder) if folder in (path, *path.parents) else path)


def _extra_roots() -> list[Path]:
    """Where imports are found that the user's own folders do not have."""
    sites = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    return [shipped("proto"), _well_known_root(), *(Path(site) for site in sites)]


def _well_known_root() -> Path:
    spec = find_spec("grpc_tools")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "_proto"


def _is_installed(proto: str, roots: Sequence[Path]) -> bool:
    """Whether a proto's module comes from an installed package."""
    if proto.startswith(_WELL_KNOWN):
        return True
    if any((root / proto).exists() for root in (*roots, shipped("proto"))):
        return False
    module = Path(proto.replace("-", "_")).with_suffix("").as_posix() + "_pb2.py"
    return any((root / module).exists() for root in _extra_roots())
