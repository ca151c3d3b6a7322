"""What ``--protosocket_opt`` may say: one named tuple, whose fields are the options."""

from __future__ import annotations

from typing import NamedTuple

from protoc_plugin.errors import GenerationError

_CHOICES = {
    "lang": ("python", "rust"),
    "codec": ("protobuf", "betterproto2", "bytes"),
    "imports": ("relative", "absolute"),
}


class Options(NamedTuple):
    """The plugin's options.

    Attributes:
        lang: the language to write.
        codec: the library of the message classes; ``bytes`` is messages left serialized.
        imports: how Python modules of the output import each other.
        prefix: the package under which absolute imports find the output, as ``acme.gen``.
        installed: protos, or folders of protos, whose modules come from an installed package
            and are imported absolutely; those that protobuf itself brings always are.
        templates: a folder of templates that replace or join the built-in ones.
    """

    lang: str = "python"
    codec: str = "protobuf"
    imports: str = "relative"
    prefix: str = ""
    installed: tuple[str, ...] = ()
    templates: str = ""


def parse_options(parameter: str) -> Options:
    """Parses ``name=value,name=value``; ``installed`` may be given several times.

    Raises:
        GenerationError: an unknown option, a bad value, or one given twice.
    """
    chosen: dict[str, str] = {}
    installed: list[str] = []
    for word in filter(None, (word.strip() for word in parameter.split(","))):
        name, equals, value = word.partition("=")
        if name not in Options._fields:
            raise GenerationError(f"unknown option {name!r}; valid options: {_usage()}")
        if not equals or not value or (name in _CHOICES and value not in _CHOICES[name]):
            raise GenerationError(f"bad value in option {word!r}; valid options: {_usage()}")
        if name == "installed":
            installed.append(value)
        elif chosen.setdefault(name, value) != value:
            raise GenerationError(f"option {name!r} given twice: {chosen[name]!r} and {value!r}")
    prefix = chosen.get("prefix")
    if prefix is not None:
        if not all(part.isidentifier() for part in prefix.split(".")):
            raise GenerationError(f"option 'prefix' is a dotted Python package, not {prefix!r}")
        if chosen.setdefault("imports", "absolute") == "relative":
            raise GenerationError("option 'prefix' goes with imports=absolute only")
    if chosen.get("codec") == "betterproto2" and chosen.get("imports") == "absolute" and not prefix:
        raise GenerationError(
            "betterproto2's own imports are relative; use imports=relative or prefix=PACKAGE"
        )
    return Options(installed=tuple(installed), **chosen)


def _usage() -> str:
    placeholders = {"prefix": "PACKAGE", "installed": "PROTO_OR_FOLDER", "templates": "FOLDER"}
    return ", ".join(
        f"{name}={'|'.join(_CHOICES.get(name, ())) or placeholders[name]}"
        for name in Options._fields
    )
