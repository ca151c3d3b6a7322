"""What mypyc is told of the classes that it compiles. Without it, nothing is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:
    Class = TypeVar("Class", bound=type)

    def mypyc_attr(**attributes: bool) -> Callable[[Class], Class]:
        """A decorator that does nothing: mypyc reads it, and compiles it away."""
        return lambda cls: cls
