"""What a supervisor and a worker say to each other: lines of JSON on a pair of sockets.

::

    supervisor ── {"start": ...} {"stop": grace} {"count": true} ──> worker
    supervisor <── {"ready": true} {"failed": text} {"stopping": true} {"counted": ...} ── worker

The end of one is the end of the other's input: so a worker learns of a supervisor that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any, Final

# Bytes of one line; the longest has the counts of every method.
_LONGEST: Final = 16 * 1024 * 1024


class Control:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Control:
        """The end that this socket is."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=_LONGEST))

    def send(self, **message: Any) -> None:
        """Send a message; nothing, if the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other side is gone, or says what is none."""
        try:
            line = await self._reader.readline()
        except (ConnectionError, ValueError):  # it is gone; or the line is too long
            return None
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    def abort(self) -> None:
        """Close it at once, whatever was sent."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close it, behind what was sent."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
