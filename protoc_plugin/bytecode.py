"""The built-in templates are compiled once, as Python's own modules are."""

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import cache_from_source
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket


class BytecodeCache(jinja2.BytecodeCache):
    """Keeps the code of a folder's templates where Python keeps that of modules beside them.

    That is ``__pycache__``, or where PYTHONPYCACHEPREFIX says. Nothing is written if Python is
    not to write bytecode, or cannot: templates are then compiled each time. Jinja itself sees to
    it that code of another source, or for another version, is not taken.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        """The path of the code, which is empty for templates of other folders."""
        path = self._folder / name
        if filename != str(path):
            return ""
        return str(Path(cache_from_source(path)).with_suffix(".j2c"))

    def load_bytecode(self, bucket: Bucket) -> None:
        try:
            with open(bucket.key, "rb") as file:
                bucket.load_bytecode(file)
        except Exception:
            # Not there, or not whole, in whatever way: it is written anew.
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.key and not sys.dont_write_bytecode:
            # In one step, and quiet where it is not allowed to.
            loader = SourceFileLoader(bucket.key, bucket.key)
            loader.set_data(bucket.key, bucket.bytecode_to_string())
