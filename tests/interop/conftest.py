"""These tests run by `make interop-rust`; `make test` does not look into this folder."""

from __future__ import annotations

import pytest
from interop import programs


def pytest_configure() -> None:
    programs.generate_python()  # test modules import it


@pytest.fixture(scope="session", autouse=True)
def _build() -> None:
    done = programs.cargo("build", "--locked", "--quiet")
    if done.returncode:
        pytest.exit(f"the Rust programs cannot be built:\n{done.stdout}", returncode=1)
