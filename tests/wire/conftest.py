"""The Frame as the protobuf library has it: compiled from the project's own schema."""

from __future__ import annotations

import importlib.resources
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from grpc_tools import protoc
from support import ROOT

SCHEMA = "protosocket/rpc/v1/frame.proto"


@pytest.fixture(scope="session")
def frame_pb2(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    out = tmp_path_factory.mktemp("frame")
    google = importlib.resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{google}", f"--python_out={out}", SCHEMA]
    assert protoc.main(arguments) == 0
    path = Path(out, SCHEMA).with_name("frame_pb2.py")
    spec = importlib.util.spec_from_file_location("frame_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
