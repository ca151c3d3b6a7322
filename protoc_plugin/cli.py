"""The ``protosocket`` command: each subcommand's module is imported when it is called for.

It is here, not in protosocket_rpc: to import a module of a package is to import the package, and
generating code must not need a runtime that works.
"""

from __future__ import annotations

import sys
from importlib import import_module

from protoc_plugin import __version__

_COMMANDS = {
    "generate": ("protoc_plugin.generate", "write Python for .proto files"),
    "serve": ("protosocket_rpc.workers.command", "serve an app with several processes"),
}


def main() -> int:
    """Runs the subcommand named first, with the arguments after it; returns its exit code."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in _COMMANDS:
        module, _ = _COMMANDS[name]
        exit_code: int = import_module(module).main(arguments)
        return exit_code
    usage = "usage: protosocket COMMAND ...\n\ncommands:\n" + "".join(
        f"  {command:10} {summary}\n" for command, (_, summary) in _COMMANDS.items()
    )
    if name == "--version":
        sys.stdout.write(f"protosocket-rpc {__version__}\n")
        return 0
    if name in ("-h", "--help"):
        sys.stdout.write(usage)
        return 0
    sys.stderr.write(f"protosocket: no command {name!r}\n\n{usage}")
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
