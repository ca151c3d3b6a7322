"""``protoc-gen-protosocket``: CodeGeneratorRequest on stdin, CodeGeneratorResponse on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

import protoc_plugin
from protoc_plugin.builder import CustomOptions, FileBuilder, Index, Names
from protoc_plugin.checks import check_file, check_folders
from protoc_plugin.errors import GenerationError
from protoc_plugin.model import File
from protoc_plugin.options import Options, parse_options

_PROTO3_OPTIONAL = 1
_SUPPORTS_EDITIONS = 2
_EDITION_PROTO2 = 998
_EDITION_2024 = 1001


def generate(
    protos: Sequence[FileDescriptorProto], wanted: Iterable[str], options: Options, parameter: str
) -> dict[str, str]:
    """The files that some protos give: their names and texts, in the order of the protos.

    Args:
        protos: the protos and everything that they import.
        wanted: the names of those to write output for.
        options: the plugin's options.
        parameter: the options as the user gave them, for the header of the output.

    Raises:
        GenerationError: an option, a name in a proto or a template is wrong.
    """
    wanted = set(wanted)
    if options.lang == "python" and options.codec == "protobuf":
        own = [proto for proto in protos if proto.name in wanted]
        for proto in own:
            check_file(proto)
        check_folders(own)
    found = [proto for proto in protos if proto.name in wanted and proto.service]
    if not found:
        return {}
    # Jinja is a good part of the start-up time: only those pay for it who render something.
    from protoc_plugin.render import Renderer

    names_of = _language(options.lang)
    renderer = Renderer(options, parameter)
    index = Index(protos)
    custom_options = CustomOptions(protos)
    output: dict[str, str] = {}
    sources: dict[str, str] = {}
    files: list[File] = []
    for proto in found:
        try:
            names = names_of(proto, index, options)
        except GenerationError as error:
            raise GenerationError(f"{proto.name}: {error}") from error
        files.append(FileBuilder(proto, names, custom_options).build())
        for name, text in renderer.render(files[-1]):
            if name in output:
                raise GenerationError(
                    f"{proto.name}: writes {name}, as {sources[name]} does; rename one of them"
                )
            output[name] = text
            sources[name] = proto.name
    for name, text in renderer.render_all(files):
        if name in output:
            raise GenerationError(f"a template writes {name}, as {sources[name]} does; rename it")
        output[name] = text
    return output


def _language(lang: str) -> Callable[[FileDescriptorProto, Index, Options], Names]:
    """What writes the names of a language; that of the others is not imported."""
    if lang == "rust":
        from protoc_plugin.rust import RustNames

        return RustNames
    from protoc_plugin.python import PythonNames

    return PythonNames


def respond(data: bytes) -> bytes:
    """A serialized response to a serialized request.

    Raises:
        DecodeError: there is no request in data.
    """
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=_PROTO3_OPTIONAL | _SUPPORTS_EDITIONS
    )
    if "minimum_edition" in response.DESCRIPTOR.fields_by_name:  # protobuf 5.26 and later
        response.minimum_edition = _EDITION_PROTO2
        response.maximum_edition = _EDITION_2024
    request = plugin_pb2.CodeGeneratorRequest.FromString(data)
    try:
        options = parse_options(request.parameter)
        files = generate(request.proto_file, request.file_to_generate, options, request.parameter)
    except GenerationError as error:
        response.error = str(error)
    else:
        for name, text in files.items():
            response.file.add(name=name, content=text)
    return response.SerializeToString()


def main() -> int:
    if len(sys.argv) > 1 or sys.stdin.isatty():
        print(
            f"protoc-gen-protosocket {protoc_plugin.__version__}, a plugin for protoc:"
            " protoc --protosocket_out=DIR [--protosocket_opt=NAME=VALUE,...] FILE.proto..."
        )
        return 0
    try:
        response = respond(sys.stdin.buffer.read())
    except DecodeError:
        print("protoc-gen-protosocket: stdin is no request of protoc's", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(response)
    return 0
