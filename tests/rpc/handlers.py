"""Handlers that wait for ever, and tell what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from rpc.notes import (
    Note,
)


class Handlers:
    """Handlers that wait for ever, and tell what becomes of them."""

    def __init__(self) -> None:
        self.running = asyncio.Semaphore(0)
        self.stopped = asyncio.Semaphore(0)
        self.outcomes: list[str] = []

    def new_rpc(self, note: Note) -> Any:
        return self.stream(note) if note.text.startswith("stream") else self.unary(note)

    async def unary(self, note: Note) -> Note:
        with self.told():
            await asyncio.Event().wait()
        return note

    async def stream(self, note: Note) -> AsyncIterator[Note]:
        with self.told():
            yield Note("first")
            await asyncio.Event().wait()

    @contextlib.contextmanager
    def told(self) -> Any:
        self.running.release()
        try:
            yield
        except BaseException as error:
            self.outcomes.append(type(error).__name__)
            raise
        finally:
            self.stopped.release()
