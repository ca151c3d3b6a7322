"""A client by hand, for what a well-behaved client does not do."""

from __future__ import annotations

import asyncio

import pytest
from connectivity.peers import Peer
from service.sansio import F


class RawPeer(Peer):
    """A client by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.port: int = writer.get_extra_info("sockname")[1]

    def sends(self, *frames: F) -> None:
        self.writer.write(b"".join(frame.encode() for frame in frames))

    async def hears(self) -> F:
        return F.of(await self.next())

    async def hears_the_end(self) -> None:
        with pytest.raises((EOFError, ConnectionResetError)):
            await self.next()

    @property
    def farewell(self) -> tuple[int, str] | None:
        """What the server said before it closed: the last id, and why."""
        for frame in self.control:
            if frame.go_away is not None:
                return frame.go_away.last_id, frame.go_away.reason
        return None
