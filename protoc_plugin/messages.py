"""Makes the imports of protoc's own Python output agree with those of the services.

protoc writes ``from acme.v1 import types_pb2 as ...``, which works only where the root of the
output is on ``sys.path``. These functions rewrite such lines for where the output really lives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from protoc_plugin.imports import Imports, module_of
from protoc_plugin.options import Options

# The four ways in which protoc's Python and .pyi generators import another proto's module. What
# they make of an odd file name may be no name of Python's.
_STATEMENT = re.compile(
    r"""^(?:
        (?:from\ (?P<package>.+)\ )?import\ (?P<name>.+_pb2)\ as\ (?P<alias>.+)
      | (?:import\ importlib\n)?
        (?P<dynamic_alias>[^=\n]+)\ =\ importlib\.import_module\('(?P<dynamic>.+_pb2)'\)
      | from\ (?P<public>.+_pb2)\ import\ (?P<names>.+)
    )$""",
    re.MULTILINE | re.VERBOSE,
)
# Names that protoc gives to what an imported module imports publicly. Nothing uses them, and they
# may be no names of Python's.
_TRANSITIVE = re.compile(
    r"^try:\n  .+_pb2 = .+_pb2\nexcept AttributeError:\n  .+_pb2 = .+_pb2\n", re.MULTILINE
)
# ``from ... import *`` of a module that no statement can name.
_PUBLISH = "globals().update({k: v for k, v in vars(_public).items() if k[0] != '_'})"


def modules_of(protos: list[str]) -> dict[str, str]:
    """The protos by the names of their modules."""
    return {module_of(proto) + "_pb2": proto for proto in protos}


def relocate(proto: str, text: str, modules: Mapping[str, str], options: Options) -> str:
    """The text of a proto's ``_pb2.py`` with the imports that options ask for.

    Args:
        modules: what the output holds, see modules_of().
    """
    imports = Imports(module_of(proto), options)

    def replace(match: re.Match[str]) -> str:
        module, alias = _found(match)
        if module not in modules:
            return match[0]
        if not alias.isidentifier():
            alias = "_" + re.sub(r"\W", "_", alias)
        statement = imports.statement(modules[module], "_pb2", alias)
        if statement.dynamic:
            lines = f"import importlib as _importlib\n{statement.statement}"
            return f"{lines}\n{_PUBLISH}" if match["public"] else lines
        if match["public"]:
            return _published(match, imports, modules[module])
        return statement.statement

    return _STATEMENT.sub(replace, _TRANSITIVE.sub("", text))


def relocate_stub(proto: str, text: str, modules: Mapping[str, str], options: Options) -> str:
    """The text of a proto's ``_pb2.pyi``, likewise.

    What is of a module that no import statement can name is of type ``_Any``.
    """
    imports = Imports(module_of(proto), options)
    unknown: list[str] = []

    def replace(match: re.Match[str]) -> str:
        module, alias = _found(match)
        if module not in modules:
            return match[0]
        statement = imports.statement(modules[module], "_pb2", alias)
        if match["public"]:
            if statement.dynamic:
                names = [name.split(" as ")[-1] for name in match["names"].split(", ")]
                return "\n".join(f"{name} = _Any" for name in names)
            return _published(match, imports, modules[module])
        if statement.dynamic or not alias.isidentifier():
            unknown.append(alias)
            return ""
        return statement.statement

    text = _STATEMENT.sub(replace, text)
    for alias in sorted(unknown, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(alias)}\.[\w.]+", "_Any", text)
    return text


def _found(match: re.Match[str]) -> tuple[str, str]:
    """The module that a statement of protoc's imports, and the name that it gives to it."""
    module = match["dynamic"] or match["public"] or _join(match["package"], match["name"])
    return module, match["alias"] or match["dynamic_alias"] or "_public"


def _published(match: re.Match[str], imports: Imports, proto: str) -> str:
    package, name = imports.locate(proto, "_pb2")
    return f"from {_join(package, name)} import {match['names']}"


def _join(package: str | None, name: str) -> str:
    if not package:
        return name
    return package + name if package.endswith(".") else f"{package}.{name}"
