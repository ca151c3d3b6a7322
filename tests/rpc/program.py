"""A server of notes that runs as a process of its own: ``python program.py TARGET``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rpc.notes import Note, serving  # found by the line above


def new_rpc(note: Note) -> object:
    return numbers() if note.text == "count" else unary(note)


async def unary(note: Note) -> Note:
    if note.text == "hang":
        await asyncio.Event().wait()
    return Note(str(os.getpid()))


async def numbers() -> AsyncIterator[Note]:
    for number in count():
        yield Note(str(number))
        await asyncio.sleep(0.001)


async def main() -> None:
    async with serving(new_rpc, sys.argv[1]):
        print("ready")
        await asyncio.Event().wait()


asyncio.run(main())
