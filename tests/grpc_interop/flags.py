"""What the two programs have in common: flags, and the generated code."""

from __future__ import annotations

import argparse
import atexit
import sys
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from tests.grpc_interop.library import LIBRARIES, generate


def boolean(word: str) -> bool:
    """A flag's ``true`` or ``false``."""
    if word.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"neither true nor false: {word!r}")
    return word.lower() == "true"


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--library", choices=LIBRARIES, default="native")
    made.add_argument("--use_tls", type=boolean, default=False, metavar="BOOLEAN")
    made.add_argument("--stubs", type=Path, metavar="DIR", help="with the generated code, if it is")
    return made


def find_stubs(directory: Path | None) -> None:
    """Let the generated code be imported: what is in the directory, or else made anew."""
    if directory is None:
        directory = Path(mkdtemp(prefix="interop-"))
        atexit.register(rmtree, directory)
        generate(directory)
    sys.path.insert(0, str(directory))
