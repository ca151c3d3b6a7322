"""Reading of large messages straight into the memory that they are put together in.

uvloop hands a protocol copies of what it reads, 250 KiB at the most. A protocol with a buffer is
read into without one, but costs every small message a call more. So a connection has a `Direct`
in its place from its first large message on, until only small ones have come for a while.
"""

from __future__ import annotations

import threading
from typing import Any, Final, Protocol

# What does not belong to the rest of a large message is read in pieces of this size, and copied:
# enough of one that begins there to show that more will come, and no more than that.
_PIECE: Final = 80 * 1024
# So many of less than that, one after the other, and the connection reads for itself again.
_ENOUGH: Final = 64


class Connection(Protocol):
    """What is read for, and is the transport's protocol otherwise."""

    def room(self) -> Any:
        """Where what comes next belongs: a view, not empty. None if it is to be handed in."""
        ...  # a protocol has no body

    def filled(self, size: int, /) -> None:
        """So many bytes have arrived there."""
        ...  # a protocol has no body

    def data_received(self, data: bytes, /) -> None: ...

    def eof_received(self) -> bool: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...


class _Pieces(threading.local):
    """Where the pieces of all connections of one thread arrive, each to be taken away at once."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_PIECE))


_pieces: Final = _Pieces()


class Direct:
    """A buffered protocol (asyncio.BufferedProtocol): `connection` while large messages arrive."""

    __slots__ = (
        "_connection",
        "_filled",
        "_in_room",
        "_piece",
        "_room",
        "_small",
        "_transport",
        "connection_lost",
        "eof_received",
        "pause_writing",
        "resume_writing",
    )

    def __init__(self, connection: Connection, transport: Any) -> None:
        self._connection = connection
        self._transport = transport
        self._room = connection.room
        self._filled = connection.filled
        self._piece = _pieces.view
        self._in_room = False
        self._small = 0
        self.eof_received = connection.eof_received
        self.pause_writing = connection.pause_writing
        self.resume_writing = connection.resume_writing
        self.connection_lost = connection.connection_lost

    def get_buffer(self, sizehint: int) -> Any:
        room = self._room()
        self._in_room = room is not None
        return room if self._in_room else self._piece

    def buffer_updated(self, size: int) -> None:
        if self._in_room:
            self._small = 0
            self._filled(size)
            return
        self._connection.data_received(bytes(self._piece[:size]))
        self._small = 0 if size == _PIECE else self._small + 1
        if self._small == _ENOUGH and not self._transport.is_closing():
            swap(self._transport, self._connection)


def reads_directly(transport: Any, protocol: Any) -> bool:
    """True if `transport` can be given a `Direct` in place of `protocol`, and it would help.

    asyncio's transports read into what they hand over already; those of TLS copy all the same.
    """
    kind = type(transport)
    return (
        kind.__module__ == "uvloop.loop"
        and kind.__name__ in ("TCPTransport", "UnixTransport")
        and transport.get_protocol() is protocol
        and bool(transport.is_reading())
    )


def swap(transport: Any, protocol: Any) -> None:
    """Have `transport` read for `protocol` from now on."""
    reading = transport.is_reading()
    transport.pause_reading()
    transport.set_protocol(protocol)
    if reading:
        transport.resume_reading()
