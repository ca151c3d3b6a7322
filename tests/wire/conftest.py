from __future__ import annotations

from types import ModuleType

import pytest
from wire.frames import load_frame_pb2


@pytest.fixture(scope="session")
def frame_pb2() -> ModuleType:
    """The Frame as the protobuf library has it."""
    return load_frame_pb2()
