"""From protoc's descriptors to the model."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from protoc_plugin.errors import GenerationError
from protoc_plugin.model import File, Import, Message, Method, Service, Setting

_OPTIONS_PROTO = "protosocket/options.proto"
# Field numbers in descriptor.proto, from which the paths of source locations are made.
_FILE_SERVICE = 6
_SERVICE_METHOD = 2


class Names(Protocol):
    """How one language writes the names of one file; made afresh for each file.

    What the names are for is said by the attributes of the model that they become.
    """

    @property
    def stem(self) -> str: ...
    @property
    def imports(self) -> tuple[Import, ...]: ...
    def message(self, full_name: str) -> Message: ...
    def service(self, service: str) -> str: ...
    def service_constant(self, service: str) -> str: ...
    def method(self, service: str, method: str) -> str: ...
    def method_constant(self, service: str, method: str) -> str: ...
    def method_attribute(self, service: str, method: str) -> str: ...


class Index:
    """Where each message type of a request is defined: its file, and its name inside it."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        self._messages: dict[str, tuple[descriptor_pb2.FileDescriptorProto, str]] = {}
        for file in files:
            package = f"{file.package}." if file.package else ""
            for name in _message_names(file.message_type):
                self._messages[package + name] = (file, name)

    def find(self, full_name: str) -> tuple[descriptor_pb2.FileDescriptorProto, str]:
        """The file that defines a message, and its name there, such as ``Outer.Inner``."""
        return self._messages[full_name]


def _message_names(
    messages: Iterable[descriptor_pb2.DescriptorProto], outer: str = ""
) -> Iterator[str]:
    for message in messages:
        name = outer + message.name
        yield name
        yield from _message_names(message.nested_type, name + ".")


class CustomOptions:
    """Reads protosocket/options.proto's extensions, if any file of the request imports it."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        by_name = {file.name: file for file in files}
        self._extensions: dict[str, tuple[Any, Any]] = {}
        if _OPTIONS_PROTO in by_name:
            pool = descriptor_pool.DescriptorPool()
            pool.AddSerializedFile(by_name["google/protobuf/descriptor.proto"].SerializeToString())
            pool.AddSerializedFile(by_name[_OPTIONS_PROTO].SerializeToString())
            for name, options in (("service", "ServiceOptions"), ("method", "MethodOptions")):
                self._extensions[name] = (
                    pool.FindExtensionByName(f"protosocket.{name}"),
                    message_factory.GetMessageClass(
                        pool.FindMessageTypeByName(f"google.protobuf.{options}")
                    ),
                )

    def read(self, kind: str, options: Any) -> dict[str, float | int]:
        """The settings of a service's or method's (``kind``) options."""
        if kind not in self._extensions:
            return {}
        extension, options_class = self._extensions[kind]
        settings = options_class.FromString(options.SerializeToString()).Extensions[extension]
        return {field.name: value for field, value in settings.ListFields()}


class FileBuilder:
    """Builds the model of one file."""

    def __init__(
        self,
        proto: descriptor_pb2.FileDescriptorProto,
        names: Names,
        custom_options: CustomOptions,
    ) -> None:
        self._proto = proto
        self._names = names
        self._custom_options = custom_options
        self._locations = {
            tuple(location.path): location
            for location in proto.source_code_info.location
            if location.path[:1] == [_FILE_SERVICE]
        }

    def build(self) -> File:
        services = tuple(
            self._service(service, (_FILE_SERVICE, index))
            for index, service in enumerate(self._proto.service)
        )
        return File(
            name=self._proto.name,
            package=self._proto.package,
            stem=self._names.stem,
            imports=self._names.imports,
            services=services,
        )

    def _service(
        self, proto: descriptor_pb2.ServiceDescriptorProto, path: tuple[int, ...]
    ) -> Service:
        package = f"{self._proto.package}." if self._proto.package else ""
        full_name = package + proto.name
        defaults = self._settings("service", proto.options, path)
        return Service(
            name=proto.name,
            identifier=self._names.service(proto.name),
            constant=self._names.service_constant(proto.name),
            full_name=full_name,
            doc=self._doc(path, proto.options.deprecated),
            deprecated=proto.options.deprecated,
            methods=tuple(
                self._method(full_name, proto, method, defaults, (*path, _SERVICE_METHOD, index))
                for index, method in enumerate(proto.method)
            ),
        )

    def _method(
        self,
        service_name: str,
        service: descriptor_pb2.ServiceDescriptorProto,
        proto: descriptor_pb2.MethodDescriptorProto,
        defaults: dict[str, float | int],
        path: tuple[int, ...],
    ) -> Method:
        deprecated = proto.options.deprecated or service.options.deprecated
        settings: dict[str, Setting] = {**defaults, **self._settings("method", proto.options, path)}
        if level := proto.options.idempotency_level:
            levels = descriptor_pb2.MethodOptions.IdempotencyLevel
            settings["idempotency_level"] = levels.Name(level)
        if deprecated:
            settings["deprecated"] = True
        requests = "Stream" if proto.client_streaming else "Unary"
        replies = "Stream" if proto.server_streaming else "Unary"
        return Method(
            name=proto.name,
            identifier=self._names.method(service.name, proto.name),
            constant=self._names.method_constant(service.name, proto.name),
            attribute=self._names.method_attribute(service.name, proto.name),
            path=f"/{service_name}/{proto.name}",
            kind=requests + replies,
            request=self._names.message(proto.input_type.lstrip(".")),
            reply=self._names.message(proto.output_type.lstrip(".")),
            doc=self._doc(path, deprecated),
            deprecated=deprecated,
            settings=tuple(settings.items()),
        )

    def _settings(self, kind: str, options: Any, path: tuple[int, ...]) -> dict[str, float | int]:
        settings = self._custom_options.read(kind, options)
        timeout = settings.get("timeout", 1.0)
        if not (timeout > 0 and math.isfinite(timeout)):
            raise GenerationError(f"{self._position(path)}: timeout must be positive, in seconds")
        return settings

    def _doc(self, path: tuple[int, ...], deprecated: bool) -> str:
        location = self._locations.get(path)
        comment = ""
        if location is not None:
            comment = location.leading_comments or location.trailing_comments
        if isinstance(comment, bytes):  # what is not UTF-8 is given so
            comment = comment.decode("utf-8", "replace")
        # A second star opens some comments, /** so */, and is no part of what they say.
        lines = comment.removeprefix("*").replace("\r\n", "\n").split("\n")
        doc = textwrap.dedent("\n".join(line.rstrip() for line in lines)).strip()
        if deprecated and "deprecated" not in doc.lower():
            doc = f"{doc}\n\nDeprecated.".lstrip()
        return doc

    def _position(self, path: Sequence[int]) -> str:
        location = self._locations.get(tuple(path))
        if location is None:
            return self._proto.name
        return f"{self._proto.name}:{location.span[0] + 1}:{location.span[1] + 1}"
