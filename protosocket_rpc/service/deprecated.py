"""Calls of deprecated methods. Not compiled: a warning counts the frames of interpreted code."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


class Deprecated:
    """A callable of a deprecated method: its first call gives a DeprecationWarning."""

    def __init__(self, call: Callable[..., Any], path: str) -> None:
        self._call = call
        self._path = path
        self._warned = False

    def __repr__(self) -> str:
        return f"<{self._call!r}, deprecated>"

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Start a call, as the callable does."""
        if not self._warned:
            self._warned = True
            # Of the line that calls the stub.
            warnings.warn(f"{self._path} is deprecated", DeprecationWarning, stacklevel=3)
        return self._call(*args, **options)
