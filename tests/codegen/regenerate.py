"""Runs protoc with the plugin over the cases beside this file.

``python tests/codegen/regenerate.py`` writes each case's ``out/`` anew; look at the diff, then
commit it. A case is a folder of protos, with the plugin's options in ``options.txt`` if it has any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CASES = sorted(path.name for path in HERE.iterdir() if next(path.glob("**/*.proto"), None))


def protoc(
    *arguments: str | Path, cwd: Path, text: bool = True
) -> subprocess.CompletedProcess[Any]:
    """Runs grpcio-tools' protoc, with this clone's plugin, and returns whatever comes of it."""
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "plugin"
        plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m protoc_plugin\n')
        plugin.chmod(0o755)
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"--plugin=protoc-gen-protosocket={plugin}",
                f"-I{cwd}",
                f"-I{ROOT / 'proto'}",
                *map(str, arguments),
            ],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=text,
        )


def protos_of(case: str) -> list[str]:
    """The case's protos, as protoc is to name them."""
    folder = HERE / case
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("**/*.proto"))


def options_of(case: str) -> str:
    """The case's plugin options."""
    path = HERE / case / "options.txt"
    return path.read_text().strip() if path.exists() else ""


def generate(case: str, out: Path) -> None:
    """Writes what the plugin makes of a case into an existing folder."""
    done = protoc(f"--protosocket_out={options_of(case)}:{out}", *protos_of(case), cwd=HERE / case)
    if done.returncode:
        raise RuntimeError(f"{case}: {done.stderr}")


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


def contents(folder: Path) -> dict[str, str]:
    """What the plugin has written into a folder, by the names of the files."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.glob("**/*_protosocket.*")
    } | {path.name: path.read_text() for path in folder.glob("*.rs")}


def serve_everything(folder: Path) -> tuple[int, int]:
    """How many modules of the package ``gen`` in a folder import, and how many methods answer."""
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "serve_everything.py", folder, "gen"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    modules, methods = map(int, done.stdout.split())
    return modules, methods


if __name__ == "__main__":
    for name in CASES:
        target = HERE / name / "out"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        generate(name, target)
        print(name)
