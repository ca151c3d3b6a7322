"""The exercise served by a process of its own: ``python serve.py FLAVOUR TARGET``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from interop.exercise import Exercise  # found by the line above
from interop.flavours import FLAVOURS


async def main(program: str, target: str) -> None:
    (flavour,) = (flavour for flavour in FLAVOURS if flavour.program == program)
    async with flavour.serve(Exercise(), target):
        print("ready")
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
