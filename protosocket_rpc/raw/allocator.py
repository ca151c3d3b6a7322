"""Have the C library keep the memory of large messages instead of fetching it anew for each."""

from __future__ import annotations

# The largest that glibc's threshold follows (mallopt(3), M_MMAP_THRESHOLD), less its own header.
_BLOCK = (32 << 20) - (64 << 10)

_kept = False


def keep_large_blocks() -> None:
    """Have memory that large messages leave behind used again by the next ones.

    glibc gives blocks of 128 KiB and more back to the system as soon as they are free, until a
    larger one was freed; then it keeps up to twice the size of that one. To have every page of
    every message mapped again costs far more than to copy it: to parse and serialize 1 MiB takes
    4 ms then, and 0.3 ms if the memory is kept. So this frees a block of 32 MiB, which was never
    touched; up to 64 MiB that were used once may stay with the process for it. Elsewhere than on
    glibc it does nothing.
    """
    global _kept
    if not _kept:
        _kept = True
        bytes(_BLOCK)
