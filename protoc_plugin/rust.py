"""How Rust writes the names of a proto, next to what prost makes of it.

prost has a module for each package, each inside the one before it, and in them a module for each
message with messages inside. Services are in a module of their own in that of their package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from google.protobuf import descriptor_pb2

from protoc_plugin.builder import Index
from protoc_plugin.errors import GenerationError
from protoc_plugin.model import Import, Message
from protoc_plugin.options import Options

_WIRE = ("protosocket", "rpc", "v1")
_KEYWORDS = """
abstract as async await become box break const continue do dyn else enum extern false final fn for
gen if impl in let loop macro match mod move mut override priv pub ref return static struct trait
true try type typeof unsafe unsized use virtual where while yield
"""
_NEVER_RAW = frozenset(("_", "crate", "self", "super", "Self"))
# prost's own idea of these; the others of google.protobuf are in prost_types.
_WELL_KNOWN = {
    "Empty": "()",
    "BoolValue": "bool",
    "BytesValue": "::prost::alloc::vec::Vec<u8>",
    "DoubleValue": "f64",
    "FloatValue": "f32",
    "Int32Value": "i32",
    "Int64Value": "i64",
    "StringValue": "::prost::alloc::string::String",
    "UInt32Value": "u32",
    "UInt64Value": "u64",
}


class RustNames:
    """The names in one file's output."""

    def __init__(
        self, proto: descriptor_pb2.FileDescriptorProto, index: Index, options: Options
    ) -> None:
        if options != Options(lang="rust", templates=options.templates):
            raise GenerationError("with lang=rust, templates is the only other option")
        self._index = index
        self._package = [_snake(part) for part in proto.package.split(".") if part]
        self._name = proto.name.removesuffix(".proto")
        self._methods: dict[tuple[str, str], str] = {}
        self._streams: dict[tuple[str, str], str] = {}
        for service in proto.service:
            taken = {"new"}  # which makes a client
            for method in service.method:
                name = _free(_snake(method.name), taken)
                stream = _free(f"{_camel(name.removeprefix('r#'))}Stream", taken)
                taken |= {name, stream}
                self._methods[service.name, method.name] = name
                self._streams[service.name, method.name] = stream

    @property
    def stem(self) -> str:
        return self._name

    @property
    def imports(self) -> tuple[Import, ...]:
        path = "::".join((*self._up(), *_WIRE))
        return (Import(f"use {path} as wire", relative=True, dynamic=False),)

    def service(self, service: str) -> str:
        return _camel(service)

    def service_constant(self, service: str) -> str:
        return f"{_snake(service).removeprefix('r#')}_protosocket"

    def method(self, service: str, method: str) -> str:
        return self._methods[service, method]

    def method_constant(self, service: str, method: str) -> str:
        return self._methods[service, method].removeprefix("r#").upper()

    def method_attribute(self, service: str, method: str) -> str:
        return self._streams[service, method]

    def message(self, full_name: str) -> Message:
        proto, name = self._index.find(full_name)
        *outer, own = name.split(".")
        if proto.package == "google.protobuf":
            type_ = _WELL_KNOWN.get(name)
            if type_ is None:
                path = [*map(_snake, outer), _camel(own)]
                type_ = "::".join(("::prost_types", *path))
        else:
            package = [_snake(part) for part in proto.package.split(".") if part]
            type_ = "::".join((*self._up(package), *map(_snake, outer), _camel(own)))
        return Message(own, full_name, type_, "")

    def _up(self, package: Iterable[str] = ()) -> tuple[str, ...]:
        """The path from a service's module to that of a package, or to what is around them all."""
        package = list(package)
        common = 0
        for ours, theirs in zip(self._package, package, strict=False):
            if ours != theirs:
                break
            common += 1
        supers = ["super"] * (1 + len(self._package) - common)
        return (*supers, *package[common:])


def _words(name: str) -> list[str]:
    """The words of a name, as the crate heck, which prost uses, tells them apart."""
    return re.findall(r"[A-Z]+[0-9]*(?![a-z0-9])|[A-Z]?[a-z][a-z0-9]*|[A-Z][0-9]*|[0-9]+", name)


def _snake(name: str) -> str:
    return _identifier("_".join(_words(name)).lower())


def _camel(name: str) -> str:
    return _identifier("".join(map(str.capitalize, _words(name))))


def _identifier(name: str) -> str:
    if name in _NEVER_RAW or not name:
        return f"{name}_"
    return f"r#{name}" if name in _KEYWORDS.split() else name


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
