"""Installs the oldest versions that pyproject.toml allows of all that the library needs.

What is there already is left alone, so that the second time takes no network.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("codegen", "msgpack", "status")
# The oldest grpcio-tools need its pkg_resources, which later ones warn of, or do not have.
THEIRS = ["setuptools<67"]


def oldest() -> list[str]:
    """The requirements, with each lower bound as the version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    allowed: list[str] = list(project["dependencies"])
    for extra in EXTRAS:
        allowed += project["optional-dependencies"][extra]
    assert all(each.count(">=") == 1 for each in allowed), allowed
    return [each.replace(">=", "==") for each in allowed]


if __name__ == "__main__":
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    subprocess.run([*pip, *oldest(), *THEIRS], check=True)
