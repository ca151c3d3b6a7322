"""An ordered line protocol: one answer for each line, in the order of the lines.

    $ python -m examples.raw.lines 127.0.0.1:7000
    $ printf 'sum 1 2 3\\nsleep 1\\nupper done\\n' | nc -N 127.0.0.1 7000
    6
    slept
    DONE

A slow line holds up those behind it, on its connection alone. A peer that half-closes, as ``nc -N``
does, still gets every answer; one that sends faster than it is served is not read from.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw import Connection, Reactor, serve
from protosocket_rpc.raw.codecs import LineCodec

MAX_WAITING = 1000


async def answer(line: str) -> str:
    command, _, rest = line.partition(" ")
    if command == "upper":
        return rest.upper()
    if command == "sum":
        return str(sum(int(word) for word in rest.split()))
    if command == "sleep":
        await asyncio.sleep(float(rest))
        return "slept"
    raise ValueError(f"unknown command {command!r}")


class Desk(Reactor[str, str]):
    """Serves one peer, line after line."""

    def on_open(self, connection: Connection[str, str]) -> None:
        self.connection = connection
        self.lines: deque[str] = deque()
        self.ended = False
        self.work: asyncio.Task[None] | None = None

    def on_messages(self, messages: list[str]) -> None:
        self.lines.extend(messages)
        if len(self.lines) > MAX_WAITING:
            self.connection.pause_reading()
        if self.work is None:
            self.work = asyncio.ensure_future(self.serve_lines())

    async def serve_lines(self) -> None:
        try:
            while self.lines:
                line = self.lines.popleft()
                try:
                    reply = await answer(line)
                except ValueError as error:
                    reply = f"error: {error}"
                self.connection.send(reply)
                await self.connection.drain()
                self.connection.resume_reading()
            self.work = None
            if self.ended:
                self.connection.close()
        except ConnectionClosed:
            pass  # nobody is left to answer

    def on_eof(self) -> bool:
        self.ended = True
        return self.work is not None  # there are answers to send: close afterwards

    def on_close(self, cause: Exception | None) -> None:
        if self.work is not None:
            self.work.cancel()


async def main(target: str) -> None:
    async with await serve(target, LineCodec, Desk) as server:
        print(f"serving on {server.target}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
