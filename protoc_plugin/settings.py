"""What ``protosocket generate`` is to do: ``[tool.protosocket]`` of pyproject.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from protoc_plugin.errors import GenerationError
from protoc_plugin.options import Options, parse_options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Settings:
    """The settings; paths are absolute.

    Attributes:
        protos: .proto files, and folders of them.
        include: where imports are looked for, as protoc's ``-I``.
        out: the folder to write to.
        clean: remove generated files that the protos no longer give.
        imports, prefix, codec, templates: the plugin's options.
    """

    protos: tuple[Path, ...] = ()
    include: tuple[Path, ...] = ()
    out: Path | None = None
    clean: bool = False
    imports: str = ""
    prefix: str = ""
    codec: str = ""
    templates: Path | None = None

    @property
    def parameter(self) -> str:
        """The plugin's options, as protoc takes them; the same wherever the project lies."""
        words = {
            "imports": self.imports,
            "prefix": self.prefix,
            "codec": self.codec,
            "templates": self.templates.name if self.templates else "",
        }
        return ",".join(f"{name}={value}" for name, value in words.items() if value)

    @property
    def options(self) -> Options:
        """The plugin's options.

        Raises:
            GenerationError: one of them is wrong.
        """
        return parse_options(self.parameter)._replace(templates=str(self.templates or ""))


def read_settings(folder: Path) -> Settings:
    """The settings of the nearest pyproject.toml, at or above a folder, that has any.

    Raises:
        GenerationError: a setting has an unknown name or a value of the wrong type.
    """
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if path.is_file():
            try:
                tables = tomllib.loads(path.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise GenerationError(f"{path}: {error}") from error
            tool = tables.get("tool")
            table = tool.get("protosocket") if isinstance(tool, dict) else None
            if isinstance(table, dict):
                return _settings(path, table)
            if table is not None:
                raise GenerationError(f"{path}: [tool.protosocket] must be a table")
    return Settings()


def _settings(path: Path, table: Mapping[str, Any]) -> Settings:
    values: dict[str, Any] = {}
    types = {field.name: field.type for field in fields(Settings)}
    for name, value in table.items():
        key = name.replace("-", "_")
        where = f"{path}: [tool.protosocket] {name}"
        if key not in types:
            raise GenerationError(f"{where}: unknown; valid settings: {', '.join(types)}")
        if key in ("protos", "include"):
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise GenerationError(f"{where}: must be a list of paths")
            values[key] = tuple(path.parent / each for each in value)
        elif key == "clean":
            if not isinstance(value, bool):
                raise GenerationError(f"{where}: must be true or false")
            values[key] = value
        else:
            if not isinstance(value, str):
                raise GenerationError(f"{where}: must be a string")
            values[key] = path.parent / value if key in ("out", "templates") else value
    return Settings(**values)
