"""What the peers send, and the work that their handlers do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.work import TEXT, Work


def payload(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


def echo_request(echo: Any, work: Work) -> Callable[[int], Any]:
    """Makes the message with a given number; `echo` is the generated class."""
    if work.size == len(TEXT):
        return lambda number: echo(text=TEXT, number=number)
    body = payload(work.size)
    return lambda number: echo(number=number, payload=body)


def burn(microseconds: int) -> None:
    """Uses that much CPU time of the calling thread, holding the interpreter's lock."""
    end = time.thread_time_ns() + microseconds * 1000
    while time.thread_time_ns() < end:
        pass
