"""Connections within the process, for targets such as ``memory:name``. No sockets are involved.

::

    write ──> waits in the writer ──> on its way, at most CAPACITY bytes ──> data_received

Both ends are transports as asyncio has them: bytes arrive in a later turn of the loop, in pieces
of other sizes than they were written in, and not at all while the reader does not read; then the
writer is told to pause.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import Any, Final
from weakref import WeakValueDictionary

# Bytes on their way in each direction, as in the buffers of a socket. Also the most that is read
# at a time.
CAPACITY: Final = 64 * 1024

_HIGH: Final = 64 * 1024


class MemoryListener:
    """Holds a name of this process, and takes connections to it once it listens.

    Raises:
        OSError: the name is in use.
    """

    def __init__(self, name: str) -> None:
        if name in _listeners:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self.name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._protocol: Callable[[], Any] | None = None
        self._context = Context()
        _listeners[name] = self

    def listen(self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], Any]) -> None:
        """Take connections, from this event loop.

        Args:
            protocol: makes what the server's end of a connection belongs to.
        """
        self._loop = loop
        self._protocol = protocol
        self._context = copy_context()

    def accept(self, loop: asyncio.AbstractEventLoop) -> MemoryTransport:
        """The client's end of a new connection.

        Raises:
            ConnectionRefusedError: nothing listens, or it does on another loop.
        """
        if self._protocol is None:
            raise _refusal(self.name)
        if loop is not self._loop:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, f"memory:{self.name} belongs to another event loop"
            )
        client = MemoryTransport(loop, copy_context(), self.name)
        server = MemoryTransport(loop, self._context.copy(), self.name)
        client.join(server)
        server.join(client)
        loop.call_soon(server.start, self._protocol(), context=server.context)
        return client

    def close(self) -> None:
        """Take no more connections, and give the name back."""
        self._protocol = None
        if _listeners.get(self.name) is self:
            del _listeners[self.name]

    async def wait_closed(self) -> None:
        """As `asyncio.Server` has it: there is nothing to wait for."""


_listeners: WeakValueDictionary[str, MemoryListener] = WeakValueDictionary()

if hasattr(os, "register_at_fork"):  # not on Windows, where there is no fork
    os.register_at_fork(after_in_child=_listeners.clear)  # whoever listens does so in the parent


def _refusal(name: str) -> ConnectionRefusedError:
    return ConnectionRefusedError(errno.ECONNREFUSED, f"nothing listens on memory:{name}")


async def connect_in_memory(
    loop: asyncio.AbstractEventLoop, protocol: Callable[[], Any], name: str
) -> None:
    """Connect a protocol to whoever listens on `name`.

    Raises:
        ConnectionRefusedError: nobody does, on this loop.
    """
    await asyncio.sleep(0)  # as with sockets, others have a turn meanwhile
    listener = _listeners.get(name)
    if listener is None:
        raise _refusal(name)
    transport = listener.accept(loop)
    transport.start(protocol())


class MemoryTransport(asyncio.Transport):
    """One end of a connection. Made in pairs, by `MemoryListener.accept`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context, name: str) -> None:
        address = f"memory:{name}"
        super().__init__({"peername": address, "sockname": address, "memory": name})
        self._loop = loop
        # As with sockets: what happens here is not in the context of whoever wrote.
        self.context: Final = context
        self._protocol: Any = None
        self._peer: MemoryTransport | None = None
        # What the peer has written and this end has not read. Beyond CAPACITY, it waits there.
        self._inbox = bytearray()
        self._reading = False
        self._read_due = False
        self._room_due = False
        self._high = _HIGH
        self._low = _HIGH // 4
        self._writing_paused = False
        self._eof_written = False
        self._eof_read = False
        self._closing = False
        # Nothing is written or read any more: `connection_lost` is called, or about to be.
        self._ended = False
        # The peer has ended without having read everything.
        self._reset = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else "closing" if self._closing else "open"
        return f"<MemoryTransport {state} {self.get_extra_info('peername')}>"

    def join(self, peer: MemoryTransport) -> None:
        """Say what the other end is."""
        self._peer = peer

    def start(self, protocol: Any) -> None:
        """Begin to read and to write."""
        self._protocol = protocol
        self._reading = True
        self._call(protocol.connection_made, self)
        self._read_soon()

    def _soon(self, callback: Callable[..., object], *args: object) -> None:
        self._loop.call_soon(callback, *args, context=self.context)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    # -- writing ---------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high = high
        self._low = low
        self._pause_if_full()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        peer = self._peer
        return 0 if peer is None else max(len(peer._inbox) - CAPACITY, 0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._eof_written:
            raise RuntimeError("cannot write after write_eof()")
        peer = self._peer
        if self._closing or peer is None or not data:
            return
        if peer._ended:
            self._fail(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            return
        peer._inbox += data
        peer._read_soon()
        self._pause_if_full()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._closing or self._eof_written):
            self._eof_written = True
            if self._peer is not None:
                self._peer._read_soon()

    def _pause_if_full(self) -> None:
        if not self._writing_paused and self.get_write_buffer_size() > self._high:
            self._writing_paused = True
            self._call(self._protocol.pause_writing)

    def _on_room(self) -> None:
        """The peer has read."""
        self._room_due = False
        if self._ended:
            return
        waiting = self.get_write_buffer_size()
        if self._writing_paused and waiting <= self._low:
            self._writing_paused = False
            self._call(self._protocol.resume_writing)  # which may end it
        if self._closing and not waiting and not self._ended:
            self._end(None)

    # -- reading ---------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        if not self._closing:
            self._reading = True
            self._read_soon()

    def _read_soon(self) -> None:
        if self._reading and not self._read_due:
            self._read_due = True
            self._soon(self._read)

    def _read(self) -> None:
        self._read_due = False
        peer = self._peer
        if not self._reading or self._closing or peer is None:
            return
        if self._inbox:
            data = bytes(self._inbox[:CAPACITY])
            del self._inbox[:CAPACITY]
            if (peer._writing_paused or peer._closing) and not peer._room_due:
                peer._room_due = True
                peer._soon(peer._on_room)
            self._call(self._protocol.data_received, data)
            self._read_soon()
        elif self._reset:
            self._fail(_reset_error())
        elif peer._eof_written and not self._eof_read:
            self._eof_read = True
            if not self._call(self._protocol.eof_received):
                self.close()

    def _call(self, method: Callable[..., object], *args: object) -> object:
        """Call the protocol; as with sockets, what it raises ends the connection."""
        try:
            return method(*args)
        except Exception as error:
            self._loop.call_exception_handler(
                {
                    "message": f"{method.__name__}() of a protocol failed",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
            self._fail(error)
            return True

    # -- the end ---------------------------------------------------------------------------

    def close(self) -> None:
        """Read no more; end when what is written is on its way."""
        if not self._closing:
            self._closing = True
            self._reading = False
            if not self.get_write_buffer_size():
                self._end(None)

    def abort(self) -> None:
        """End at once. The peer is told that the connection was reset."""
        self._fail(None)

    def _end(self, error: Exception | None) -> None:
        """Nothing happens here any more; the peer reads what is on its way, and then the end."""
        self._closing = True
        self._ended = True
        self._eof_written = True
        self._reading = False
        peer = self._peer
        if peer is not None and not peer._ended:
            if peer._closing or peer._writing_paused:  # nobody takes what waits there
                peer._soon(peer._fail, _reset_error())
            else:
                peer._reset = bool(self._inbox)
                peer._read_soon()
        self._soon(self._lose, error)

    def _fail(self, error: Exception | None) -> None:
        """End at once; what is on its way is dropped."""
        if self._ended:
            return
        self._closing = True
        self._ended = True
        self._reading = False
        self._inbox.clear()
        peer = self._peer
        if peer is not None and not peer._ended:
            peer._inbox.clear()
            peer._soon(peer._fail, _reset_error())
        self._soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        protocol = self._protocol
        self._protocol = self._peer = None  # or only the collector would free them
        self._inbox.clear()
        protocol.connection_lost(error)


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
