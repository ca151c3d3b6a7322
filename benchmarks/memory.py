"""What a process has to spare is given back, so that it hides nothing of what comes after."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def trim() -> None:
    """Frees garbage, and returns free memory to the system where the C library can (glibc)."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
