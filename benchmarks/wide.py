"""A .proto of 50 services with 10 methods each, to see what looking up a method costs."""

from __future__ import annotations

SERVICES = [f"Wide{number:02}" for number in range(50)]
METHODS = [f"M{number}" for number in range(10)]
LAST_SERVICE = SERVICES[-1]


def proto() -> str:
    methods = "".join(f"  rpc {method}(Echo) returns (Echo);\n" for method in METHODS)
    services = "".join(f"\nservice {service} {{\n{methods}}}\n" for service in SERVICES)
    return (
        'syntax = "proto3";\n\npackage benchmark;\n\nimport "echo.proto";\n\n'
        f'option go_package = "benchmark/echo";\n{services}'
    )
