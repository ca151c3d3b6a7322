"""The plugin finds its templates and protos however the package was installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from codegen.regenerate import HERE, ROOT

PARTS = ("protoc_plugin", "protosocket_rpc", "templates", "proto")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What of the project is packaged, in a folder of its own: builds write beside it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in PARTS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a new environment that has the libraries of this one, not the project."""
    venv.create(tmp_path / "venv", symlinks=True)
    found = tmp_path / "venv" / "bin" / "python"
    site = subprocess.run(
        [found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    libraries = Path(sysconfig.get_path("purelib"))
    for path in libraries.iterdir():
        if "protosocket" not in path.name and path.suffix != ".pth":
            (Path(site.stdout.strip()) / path.name).symlink_to(path)
    return found


def pip(*arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *map(str, arguments)],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )


def check_it_works(command: list[str | Path], out: Path, **env: str) -> None:
    """Generates a case that needs the templates and the protos that are shipped."""
    out.mkdir()
    case = HERE / "options"
    subprocess.run(
        [*command, "generate", case / "options.proto", "--out", out],
        check=True,
        cwd="/",
        env=env,
    )
    name = "options_protosocket.py"
    assert (out / name).read_text() == (case / "out" / name).read_text()
    assert (out / "protosocket" / "options_pb2.py").exists()


def test_from_a_wheel(clone: Path, python: Path, tmp_path: Path) -> None:
    pip("wheel", clone, "--no-deps", "--no-build-isolation", "-w", tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    check_it_works([python.parent / "protosocket"], tmp_path / "out")


def test_from_an_editable_install(clone: Path, python: Path, tmp_path: Path) -> None:
    pip(
        *("--python", python, "install", "--no-deps", "--no-index", "--no-build-isolation"),
        *("-e", clone),
    )
    check_it_works([python.parent / "protosocket"], tmp_path / "out")


def test_from_a_clone(clone: Path, python: Path, tmp_path: Path) -> None:
    check_it_works([python, "-m", "protoc_plugin.cli"], tmp_path / "out", PYTHONPATH=str(clone))


def test_protoc_finds_the_plugin_on_the_path(clone: Path, python: Path, tmp_path: Path) -> None:
    pip(
        *("--python", python, "install", "--no-deps", "--no-index", "--no-build-isolation"),
        *("-e", clone),
    )
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(
        [
            *(python, "-m", "grpc_tools.protoc", f"--protosocket_out={out}"),
            *(f"-I{HERE / 'options'}", f"-I{ROOT / 'proto'}", "options.proto"),
        ],
        check=True,
        cwd="/",
        env={"PATH": os.pathsep.join([str(python.parent), os.defpath])},
    )
    expected = HERE / "options" / "out" / "options_protosocket.py"
    assert (out / expected.name).read_text() == expected.read_text()
