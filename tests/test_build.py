"""What the package says of its own build is true."""

from __future__ import annotations

import importlib
import runpy
import subprocess
import sys
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES

from support import ROOT

import protosocket_rpc

MODULES: list[str] = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")["MODULES"]


def test_it_says_whether_the_accelerator_is_active() -> None:
    info = protosocket_rpc.build_info()
    for name in MODULES:  # all or none
        module = importlib.import_module(f"protosocket_rpc.{name.replace('/', '.')}")
        assert module.__file__ is not None
        assert module.__file__.endswith(tuple(EXTENSION_SUFFIXES)) == info.compiled, name
    assert (info.mypyc is not None) == info.compiled
    assert ("pure Python" in str(info)) != info.compiled


def test_it_names_the_versions() -> None:
    info = protosocket_rpc.build_info()
    assert info.version == protosocket_rpc.__version__
    assert info.python.endswith(sys.version.split()[0])
    assert info.protobuf.split()[1] == metadata.version("protobuf")
    installed = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    assert info.uvloop == installed.get("uvloop")


def test_the_command_says_the_same() -> None:
    command = [sys.executable, "-m", "protosocket_rpc"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert said == f"{protosocket_rpc.build_info()}\n"
