"""How Python writes the names of a proto: modules, types, identifiers and constants.

What a proto calls something is kept wherever Python can say it. Where it cannot (keywords,
dunder names, names that the generated code needs for itself), a name is changed by a fixed rule:
``rpc`` before two leading underscores, ``_`` after the rest until the name is free.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

from google.protobuf import descriptor_pb2

from protoc_plugin.builder import Index
from protoc_plugin.errors import GenerationError
from protoc_plugin.imports import Imports, module_of
from protoc_plugin.model import Import, Message
from protoc_plugin.options import Options

# Names that the template uses; a method of the same name would hide them inside its class.
_TEMPLATE_NAMES = frozenset({"_abc", "_importlib", "_protosocket", "_typing", "_Unpack", "bytes"})

_CLASS_ENDINGS = ("Stub", "Servicer")


class PythonNames:
    """The names in one file's output."""

    def __init__(
        self, proto: descriptor_pb2.FileDescriptorProto, index: Index, options: Options
    ) -> None:
        self._index = index
        self._options = options
        self._module = module_of(proto.name)
        messages = {
            type_name.lstrip(".")
            for service in proto.service
            for method in service.method
            for type_name in (method.input_type, method.output_type)
        }
        methods = {method.name for service in proto.service for method in service.method}
        classes = {service.name + end for service in proto.service for end in _CLASS_ENDINGS}
        taken = _TEMPLATE_NAMES | methods | classes
        self._aliases: dict[str, str] = {}
        self._imports: dict[str, Import] = {}
        if options.codec != "bytes":
            imports = Imports(self._module, options)
            ending = "_pb2" if options.codec == "protobuf" else ""
            for source in sorted({self._locate(message)[0] for message in messages}):
                alias = _alias(module_of(source) + ending, taken | set(self._aliases.values()))
                self._aliases[source] = alias
                self._imports[source] = imports.statement(source, ending, alias)
        self._globals = set(self._aliases.values())

        self._identifiers: dict[tuple[str, str], str] = {}
        self._attributes: dict[tuple[str, str], str] = {}
        self._service_constants: dict[str, str] = {}
        self._method_constants: dict[tuple[str, str], str] = {}
        for service in proto.service:
            name = _upper(service.name) or "SERVICE"
            if not name.isidentifier():
                name = f"SERVICE_{name}"
            self._service_constants[service.name] = self._global(name)
        reserved = _TEMPLATE_NAMES | self._globals
        for service in proto.service:
            self._name_methods(service, reserved)

    def _name_methods(
        self, service: descriptor_pb2.ServiceDescriptorProto, reserved: Iterable[str]
    ) -> None:
        names = [method.name for method in service.method]
        changed = [name for name in names if not _allowed(name, reserved)]
        taken = set(reserved) | set(names)
        for name in names:
            identifier = name
            if name in changed:
                identifier = _free(f"rpc{name}" if name.startswith("__") else f"{name}_", taken)
                taken.add(identifier)
            self._identifiers[service.name, name] = identifier
        prefix = self._service_constants[service.name]
        for name in names:
            attribute = _free("_" + (_snake(name) or "rpc"), taken)
            taken.add(attribute)
            self._attributes[service.name, name] = attribute
            self._method_constants[service.name, name] = self._global(
                f"_{prefix}_{_upper(name) or 'RPC'}"
            )

    def _global(self, name: str) -> str:
        name = _free(name, self._globals)
        self._globals.add(name)
        return name

    @property
    def stem(self) -> str:
        return self._module.replace(".", "/")

    @property
    def imports(self) -> tuple[Import, ...]:
        return tuple(sorted(self._imports.values(), key=_import_order))

    def service(self, service: str) -> str:
        return service

    def service_constant(self, service: str) -> str:
        return self._service_constants[service]

    def method(self, service: str, method: str) -> str:
        return self._identifiers[service, method]

    def method_constant(self, service: str, method: str) -> str:
        return self._method_constants[service, method]

    def method_attribute(self, service: str, method: str) -> str:
        return self._attributes[service, method]

    def message(self, full_name: str) -> Message:
        name = full_name.rpartition(".")[2]
        if self._options.codec == "bytes":
            return Message(name, full_name, "bytes", "_protosocket.BYTES")
        source, path = self._locate(full_name)
        expression = self._aliases[source]
        for part in path:
            if _is_plain(part):
                expression += f".{part}"
            else:
                expression = f'getattr({expression}, "{part}")'
        # What is found at run time only is no type to a checker.
        dynamic = self._imports[source].dynamic or not all(map(_is_plain, path))
        type_ = "_typing.Any" if dynamic else expression
        return Message(name, full_name, type_, f"_protosocket.protobuf({expression})")

    def _locate(self, message: str) -> tuple[str, list[str]]:
        """Where the messages' library puts a message: the path of its module, and names in it."""
        proto, name = self._index.find(message)
        if self._options.codec == "protobuf":
            return proto.name, name.split(".")
        if not proto.package:
            raise GenerationError(
                f"the messages of {proto.name} are in no package, and betterproto2's output for"
                " that cannot be imported; give them one"
            )
        return proto.package.replace(".", "/"), [_betterproto2_class(name)]


def _betterproto2_class(name: str) -> str:
    """betterproto2's name for a message: the words of all its names, capitalized."""
    words = re.findall("[A-Z]+(?![a-z])[0-9]*|[A-Z]*[a-z]+[0-9]*|[0-9]+", name)
    return "".join(map(str.capitalize, words))


def _import_order(each: Import) -> tuple[bool, int, str]:
    """Statements before calls, the farthest package first, then by name."""
    package = each.statement.split(" ")[1]
    return each.dynamic, len(package.lstrip(".")) - len(package), each.statement


def _allowed(identifier: str, reserved: Iterable[str]) -> bool:
    return not (
        keyword.iskeyword(identifier) or identifier.startswith("__") or identifier in reserved
    )


def _is_plain(message: str) -> bool:
    """Whether a message's name can be an attribute, and is not taken in the module."""
    return not keyword.iskeyword(message) and message != "DESCRIPTOR"


def _free(name: str, taken: Iterable[str]) -> str:
    while name in taken or keyword.iskeyword(name):
        name += "_"
    return name


def _alias(module: str, taken: Iterable[str]) -> str:
    """``_name_pb2``, or with as many of its packages before it as make it differ from others."""
    # Python reads identifiers in normal form: what is the same then must not differ before.
    parts = re.sub(r"[^\w.]", "_", unicodedata.normalize("NFKC", module)).split(".")
    for count in range(1, len(parts) + 1):
        alias = "_" + "_".join(parts[-count:]).lstrip("_")
        if alias not in taken:
            return alias
    return _free(alias, taken)


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return words.lower().strip("_")


def _upper(name: str) -> str:
    return _snake(name).upper()
