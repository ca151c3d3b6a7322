"""How the modules of one output import each other: relative, absolute, or under a prefix."""

from __future__ import annotations

import json
import keyword
import sys
import unicodedata
from collections.abc import Sequence

from protoc_plugin.errors import GenerationError
from protoc_plugin.model import Import
from protoc_plugin.options import Options

# The protos whose modules Python's protobuf brings, in every version of it. There are more in that
# folder, such as cpp_features.proto, whose modules are generated like any other.
_WELL_KNOWN = tuple(
    f"google/protobuf/{name}.proto"
    for name in (
        "any",
        "api",
        "compiler/plugin",
        "descriptor",
        "duration",
        "empty",
        "field_mask",
        "source_context",
        "struct",
        "timestamp",
        "type",
        "wrappers",
    )
)


def module_of(proto: str) -> str:
    """The dotted module that protoc's Python output for a .proto file has, without ``_pb2``."""
    for ending in (".proto", ".protodevel"):
        proto = proto.removesuffix(ending)
    return proto.replace("-", "_").replace("/", ".")


class Imports:
    """Import statements for one module of the output.

    Args:
        module: the importing module, dotted, from the root of the output.
        options: ``imports``, ``prefix`` and ``installed`` count.
    """

    def __init__(self, module: str, options: Options) -> None:
        self._package = module.split(".")[:-1]
        self._prefix = options.prefix.split(".") if options.prefix else []
        self._relative = options.imports == "relative"
        roots = (*_WELL_KNOWN, *options.installed)
        if options.codec == "betterproto2":  # has modules of its own for whatever it needs
            roots = ()
        self._installed = {
            root.rstrip("/") if root.endswith("/") else module_of(root).replace(".", "/")
            for root in roots
        }

    def statement(self, proto: str, ending: str, alias: str) -> Import:
        """Imports the module of a proto, such as ``a/b.proto`` and ``_pb2``, under an alias.

        Raises:
            GenerationError: the module cannot be imported in this way.
        """
        package, name = self.locate(proto, ending)
        relative = package.startswith(".")
        if all(_sayable(part) for part in (*package.split("."), name) if part):
            start = f"from {package} import" if package else "import"
            return Import(f"{start} {name} as {alias}", relative, dynamic=False)
        path = f"{package}.{name}" if package.strip(".") else package + name
        arguments = json.dumps(path, ensure_ascii=False) + (", __package__" if relative else "")
        return Import(f"{alias} = _importlib.import_module({arguments})", relative, dynamic=True)

    def locate(self, proto: str, ending: str) -> tuple[str, str]:
        """The package to import a proto's module from, as a statement has it, and its name."""
        *package, name = module_of(proto).split(".")
        name += ending
        if self._is_installed(proto):
            return ".".join(package), name
        if not self._relative:
            if package and not self._prefix:
                _check_hides_nothing(package)
            return ".".join([*self._prefix, *package]), name
        common = 0
        for ours, theirs in zip(self._package, package, strict=False):
            if ours != theirs:
                break
            common += 1
        dots = "." * (1 + len(self._package) - common)
        return dots + ".".join(package[common:]), name

    def _is_installed(self, proto: str) -> bool:
        path = module_of(proto).replace(".", "/")
        return any(path == root or path.startswith(f"{root}/") for root in self._installed)


def _check_hides_nothing(package: Sequence[str]) -> None:
    hidden = package[:2] if tuple(package[:2]) == ("google", "protobuf") else package[:1]
    module = ".".join(hidden)
    # The standard library's own tests are imported by nothing.
    if len(hidden) == 2 or (module in sys.stdlib_module_names and module != "test"):
        raise GenerationError(
            f"the folder {'/'.join(hidden)}/ would hide Python's own module {module!r};"
            " use imports=relative, or prefix=PACKAGE"
        )


def _sayable(part: str) -> bool:
    """Whether an import statement can say a part of a module's name."""
    # Python reads identifiers in normal form, and so would look for a file of another name.
    return (
        part.isidentifier()
        and not keyword.iskeyword(part)
        and unicodedata.normalize("NFKC", part) == part
    )
