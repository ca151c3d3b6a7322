"""Makes protoc's ``.pyi`` files pass strict type checkers, where they would not by themselves."""

from __future__ import annotations

import ast
import re

# For a checker, a module of which little is known, and in which anything may be.
_UNTYPED = (
    '"""protoc cannot write types for this file: a name in it is a keyword of Python."""\n\n'
    "from typing import Any as _Any\n\nfrom google.protobuf import descriptor as _descriptor\n\n"
    "DESCRIPTOR: _descriptor.FileDescriptor\ndef __getattr__(name: str) -> _Any: ...\n"
)
_TYPING = "\nfrom typing import "
_BARE_MAPPING = re.compile(r"\b_Mapping\b(?=\]| =)")
_MODULE_CLASSVAR = re.compile(r"^(\w+): _ClassVar\[int\]$", re.MULTILINE)
_EXTENSIONS = re.compile(r"^ +Extensions: _python_message\._ExtensionDict\n", re.MULTILINE)
_PRIVATE_IMPORT = re.compile(r"^(from \S+ import |import )(.+ as _\w+)\n", re.MULTILINE)


def tidy_stub(text: str) -> str:
    """The text of a ``.pyi``; one without any types if protoc's is no Python."""
    try:
        ast.parse(text)
    except SyntaxError:
        return _UNTYPED
    typed = _BARE_MAPPING.sub("_Mapping[str, _Any]", text)
    if re.search(r"\b_Any\b", typed):
        if _TYPING not in typed:
            typed = f"{_TYPING}Any as _Any\n{typed}"
        else:
            typed = typed.replace(_TYPING, f"{_TYPING}Any as _Any, ", 1)
    # A class variable outside of a class, and what the base class has in a better way.
    typed = _EXTENSIONS.sub("", _MODULE_CLASSVAR.sub(r"\1: int", typed))
    return _PRIVATE_IMPORT.sub(lambda match: _used_imports(match, typed), typed)


def _used_imports(match: re.Match[str], text: str) -> str:
    used = [
        name
        for name in match[2].split(", ")
        if len(re.findall(rf"\b{name.rpartition(' ')[2]}\b", text)) > 1
    ]
    return f"{match[1]}{', '.join(used)}\n" if used else ""
