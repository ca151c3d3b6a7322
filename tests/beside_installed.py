"""Copies the project to the current directory, around the package that is installed.

Tests, and the programs that they start, import from the folder that they lie in: here that is the
installed package, as a user has it, with its accelerator.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "protosocket_rpc"


def main() -> None:
    here = Path.cwd()
    for old in here.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    ignore = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "target", "*.egg-info")
    for path in ROOT.iterdir():
        if path.name == PACKAGE or path.name in ignore(str(ROOT), [path.name]):
            continue
        if path.is_dir():
            shutil.copytree(path, here / path.name, ignore=ignore)
        else:
            shutil.copy(path, here)
    (here / PACKAGE).symlink_to(Path(sysconfig.get_path("platlib"), PACKAGE))


if __name__ == "__main__":
    main()
