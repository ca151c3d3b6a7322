"""The program ``protoc-gen-protosocket``."""

from __future__ import annotations

import gc


def main() -> int:
    """Answers the request on stdin; returns the exit code."""
    # A run keeps what it makes to its end. Looking for garbage, from the first import on, takes
    # a part of its time, and finds none.
    gc.disable()
    from protoc_plugin import main as plugin

    return plugin.main()


if __name__ == "__main__":
    raise SystemExit(main())
