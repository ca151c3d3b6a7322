"""A .proto of 50 services with 10 methods each, to see what looking up a method costs."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

SERVICES = [f"Wide{number:02}" for number in range(50)]
METHODS = [f"M{number}" for number in range(10)]


def proto() -> str:
    methods = "".join(f"  rpc {method}(Echo) returns (Echo);\n" for method in METHODS)
    services = "".join(f"\nservice {service} {{\n{methods}}}\n" for service in SERVICES)
    return (
        'syntax = "proto3";\n\npackage benchmark;\n\nimport "echo.proto";\n\n'
        f'option go_package = "benchmark/echo";\n{services}'
    )


def generated(module: str) -> ModuleType:
    """The generated code, imported only where it is used: it is large, and slow to import."""
    return importlib.import_module(module)


def last_stub(module: str) -> Any:
    return getattr(generated(module), f"{SERVICES[-1]}Stub")
