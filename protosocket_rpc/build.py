"""Which build of the package is running: with its accelerator, or in pure Python."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES

from protosocket_rpc.wire import frame

try:
    from protosocket_rpc._built import MYPYC  # type: ignore[import-not-found]  # by setup.py
except ImportError:
    MYPYC = None


@dataclass(frozen=True)
class BuildInfo:
    """What `build_info()` knows.

    Attributes:
        version: of this package.
        compiled: True if the accelerator is active.
        mypyc: the version that compiled it; None if it is not.
        python: implementation and version.
        protobuf: version and implementation of the protobuf library.
        uvloop: its version; None if it is not installed.
    """

    version: str
    compiled: bool
    mypyc: str | None
    python: str
    protobuf: str
    uvloop: str | None

    def __str__(self) -> str:
        build = f"compiled by mypyc {self.mypyc}" if self.compiled else "pure Python"
        uvloop = "no uvloop" if self.uvloop is None else f"uvloop {self.uvloop}"
        return f"protosocket {self.version} ({build}), {self.python}, {self.protobuf}, {uvloop}"


def build_info() -> BuildInfo:
    """Which build of the package is active, and what it runs on."""
    # Imported here: few programs ask, and every program that imports the package would wait.
    import platform
    from importlib import metadata

    from google.protobuf.internal import api_implementation

    try:
        uvloop = metadata.version("uvloop")
    except metadata.PackageNotFoundError:
        uvloop = None
    compiled = frame.__file__.endswith(tuple(EXTENSION_SUFFIXES))
    implementation: str = api_implementation.Type()
    return BuildInfo(
        version=metadata.version("protosocket-rpc"),
        compiled=compiled,
        mypyc=MYPYC if compiled else None,
        python=f"{platform.python_implementation()} {sys.version.split()[0]}",
        protobuf=f"protobuf {metadata.version('protobuf')} ({implementation})",
        uvloop=uvloop,
    )
