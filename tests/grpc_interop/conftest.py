"""The generated code of all libraries, and what grpcio's own client and server observe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.grpc_interop.library import generate
from tests.grpc_interop.processes import results


@pytest.fixture(scope="session")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where it is, and can be imported from."""
    directory = tmp_path_factory.mktemp("stubs")
    generate(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        yield directory


@pytest.fixture(scope="session")
def reference(stubs: Path) -> dict[str, Any]:
    return results("grpcio", stubs, "127.0.0.1:0", None)
