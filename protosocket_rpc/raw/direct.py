"""Reading of a large message straight into the memory that it is put together in.

uvloop hands a protocol copies of what it reads, 250 KiB at the most. A protocol with a buffer is
read into without one, but costs every small message a call more. So a connection has a `Direct`
in its place for as long as the rest of one large message arrives.
"""

from __future__ import annotations

from typing import Any, Protocol


class Connection(Protocol):
    """What is read for, and is the transport's protocol otherwise."""

    def room(self) -> Any:
        """Where the rest of the message belongs: a writable view that is not empty."""
        ...  # a protocol has no body

    def filled(self, size: int, /) -> None:
        """So many bytes have arrived there."""
        ...  # a protocol has no body

    def eof_received(self) -> bool: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None, /) -> None: ...


class Direct:
    """A buffered protocol (asyncio.BufferedProtocol): `connection` while a message arrives."""

    __slots__ = (
        "buffer_updated",
        "connection_lost",
        "eof_received",
        "pause_writing",
        "resume_writing",
        "room",
    )

    def __init__(self, connection: Connection) -> None:
        self.room = connection.room
        self.buffer_updated = connection.filled
        self.eof_received = connection.eof_received
        self.pause_writing = connection.pause_writing
        self.resume_writing = connection.resume_writing
        self.connection_lost = connection.connection_lost

    def get_buffer(self, sizehint: int) -> Any:
        return self.room()


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
