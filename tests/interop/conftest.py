"""These tests run by `make interop-rust`; `make test` does not look into this folder."""

from __future__ import annotations

import pytest
from interop import programs


def pytest_configure() -> None:
    """What test modules import and run is made here, where no time limit of a test holds."""
    programs.generate_python()
    done = programs.cargo("build", "--locked", "--quiet")
    if done.returncode:
        pytest.exit(f"the Rust programs cannot be built:\n{done.stdout}", returncode=1)
