"""Makes the imports of protoc's own Python output agree with those of the services.

protoc writes ``from acme.v1 import types_pb2 as ...``, which works only where the root of the
output is on ``sys.path``. These functions rewrite such lines for where the output really lives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from protoc_plugin.imports import Imports, module_of
from protoc_plugin.options import Options

# The four ways in which protoc's Python and .pyi generators import another proto's module.
_STATEMENT = re.compile(
    r"""^(?:
        (?:from\ (?P<package>\S+)\ )?import\ (?P<name>\S+_pb2)\ as\ (?P<alias>\S+)
      | (?:import\ importlib\n)?
        (?P<dynamic_alias>\S+)\ =\ importlib\.import_module\('(?P<dynamic>\S+_pb2)'\)
      | from\ (?P<public>\S+_pb2)\ import\ (?P<names>.+)
    )$""",
    re.MULTILINE | re.VERBOSE,
)
# ``from ... import *`` of a module that no statement can name.
_PUBLISH = "globals().update({k: v for k, v in vars(_public).items() if k[0] != '_'})"


def modules_of(protos: list[str]) -> dict[str, str]:
    """The protos by the names of their modules."""
    return {module_of(proto) + "_pb2": proto for proto in protos}


def relocate(proto: str, text: str, modules: Mapping[str, str], options: Options) -> str:
    """The text of a proto's ``_pb2.py`` or ``_pb2.pyi`` with the imports that options ask for.

    Args:
        modules: what the output holds, see modules_of().
    """
    imports = Imports(module_of(proto), options)

    def replace(match: re.Match[str]) -> str:
        words = match.groupdict()
        module = words["dynamic"] or words["public"] or _join(words["package"], words["name"])
        if module not in modules:
            return match[0]
        alias = words["alias"] or words["dynamic_alias"] or "_public"
        if not alias.isidentifier():  # protoc makes 2fa__pb2 of 2fa.proto
            alias = f"_{alias}"
        found = imports.statement(modules[module], "_pb2", alias)
        if found.dynamic:
            lines = f"import importlib as _importlib\n{found.statement}"
            return f"{lines}\n{_PUBLISH}" if words["public"] else lines
        if words["public"]:
            package, name = imports.locate(modules[module], "_pb2")
            return f"from {_join(package, name)} import {words['names']}"
        return found.statement

    return _STATEMENT.sub(replace, text)


def _join(package: str | None, name: str) -> str:
    if not package:
        return name
    return package + name if package.endswith(".") else f"{package}.{name}"
