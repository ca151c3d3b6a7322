"""What there can be no Python for: names that protoc's own modules and message classes need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from protoc_plugin.errors import GenerationError
from protoc_plugin.imports import module_of

# What a module still uses once its messages are defined, and what a class is served by.
_OF_MODULES = frozenset({"_descriptor", "_globals"})
_OF_CLASSES = frozenset({"DESCRIPTOR", "FromString", "SerializeToString"})


def check_file(proto: FileDescriptorProto) -> None:
    """Checks that protobuf's Python can have what a file and its messages are called.

    Raises:
        GenerationError: a name has to be changed.
    """
    odd = "'" in proto.name or proto.name.startswith("-")  # an option to protoc
    if odd or not all(module_of(proto.name).split(".")):
        raise GenerationError(
            f"{proto.name}: protoc's Python for a file of this name cannot be imported; rename it"
        )
    package = f"{proto.package}." if proto.package else ""
    for name in _bad_names(proto):
        raise GenerationError(
            f"{proto.name}: protobuf's Python needs the name of {package}{name} for itself;"
            " rename it"
        )


def check_folders(protos: Sequence[FileDescriptorProto]) -> None:
    """Checks that no folder is named as a module beside it, which Python would not find then.

    Raises:
        GenerationError: a file or a folder has to be renamed.
    """
    modules: dict[str, str] = {}
    for proto in protos:
        modules[module_of(proto.name) + "_pb2"] = proto.name
        if proto.service:
            modules[module_of(proto.name) + "_protosocket"] = proto.name
    for proto in protos:
        folder = module_of(proto.name)
        while folder := folder.rpartition(".")[0]:
            if folder in modules:
                raise GenerationError(
                    f"{proto.name}: its folder {folder.replace('.', '/')}/ would hide the module of"
                    f" {modules[folder]}; rename one of them"
                )


def _bad_names(proto: FileDescriptorProto) -> Iterator[str]:
    names = [message.name for message in proto.message_type]
    names += [extension.name for extension in proto.extension]
    for enum in proto.enum_type:
        names += [enum.name, *(value.name for value in enum.value)]
    yield from (name for name in names if name in _OF_MODULES)
    yield from _bad_messages(proto.message_type, "")


def _bad_messages(messages: Iterable[DescriptorProto], outer: str) -> Iterator[str]:
    for message in messages:
        name = outer + message.name
        # __dict__, __class__ and others of their kind are no attributes like any other.
        if (
            message.name.startswith("__")
            and message.name.endswith("__")
            and message.name.strip("_")
        ):
            yield name
        yield from (
            f"{name}.{each.name}" for each in message.nested_type if each.name in _OF_CLASSES
        )
        yield from _bad_messages(message.nested_type, f"{name}.")
