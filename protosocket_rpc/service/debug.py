"""The text that says where and how a call went, for people."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


class DebugString(str):
    """A text that may also be awaited, as ``grpc.aio`` users have to."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, str]:
        yield from ()
        return str(self)
