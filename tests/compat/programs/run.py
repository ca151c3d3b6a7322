"""Runs one of these programs: ``run.py grpcio|import|switch PROGRAM ARGUMENTS...``.

- ``grpcio``: as it is.
- ``import``: with its imports of ``grpc`` changed, and those of the generated files.
- ``switch``: as it is, with `compat.grpc.install()` called before.
"""

from __future__ import annotations

import re
import runpy
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

CHANGES = [
    (r"^import grpc$", "from protosocket_rpc.compat import grpc"),
    (r"^from grpc\b", "from protosocket_rpc.compat.grpc"),
    (r"^( *)from grpc\._utilities\b", r"\1from protosocket_rpc.compat.grpc._utilities"),
    (r"^from grpc_status\b", "from protosocket_rpc.compat.grpc_status"),
]


def changed(source: str) -> str:
    """The same with other imports: what a user's editor would do."""
    for pattern, replacement in CHANGES:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    return source


class _Changing(SourceFileLoader):
    def source_to_code(self, data: Any, path: Any, **options: Any) -> Any:  # type: ignore[override]  # its stub knows no options
        return super().source_to_code(changed(data.decode()).encode(), path, **options)

    def get_code(self, fullname: str) -> Any:  # not of a cache, whose imports are the others
        return self.source_to_code(self.get_data(self.path), self.path)


class _Finder(MetaPathFinder):
    """Finds the modules beside the program, with their imports changed."""

    def find_spec(
        self, name: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for directory in sys.path[:2]:
            file = Path(directory, f"{name}.py")
            if file.exists():
                return spec_from_file_location(name, file, loader=_Changing(name, str(file)))
        return None


def main() -> None:
    mode, program, *arguments = sys.argv[1:]
    sys.argv = [program, *arguments]
    if mode == "import":
        sys.meta_path.insert(0, _Finder())
        module = ModuleType("__main__")
        module.__file__ = program
        sys.modules["__main__"] = module
        exec(compile(changed(Path(program).read_text()), program, "exec"), module.__dict__)
    else:
        if mode == "switch":
            from protosocket_rpc.compat.grpc import install

            install()
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main()
