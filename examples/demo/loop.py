"""Which event loop the demo's two processes run on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # it does not exist for Windows
    uvloop = None  # type: ignore[assignment]  # None stands for its absence

Result = TypeVar("Result")

NAME = "asyncio" if uvloop is None else "uvloop"


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """``asyncio.run``, on uvloop where there is one."""
    return asyncio.run(main) if uvloop is None else uvloop.run(main)
