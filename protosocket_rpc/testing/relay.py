"""What a link is made of: two ends for each connection, and a flow of bytes in each direction."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from protosocket_rpc.testing.shuffle import Shuffle

# Bytes that a flow holds back before it stops reading: then the sender's own buffers fill up.
HELD: Final = 256 * 1024

# What a flow delivers besides bytes.
_EOF: Final = "eof"
_CLOSE: Final = "close"
_RESET: Final = "reset"


class Shape:
    """How the flows of one direction are shaped.

    Attributes:
        delay: seconds that everything is delivered later.
        dropping: nothing is delivered.
        shuffle: makes what reorders a flow; None for none.
        window: seconds that frames are collected for that.
        bytes: how many have arrived.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.dropping = False
        self.shuffle: Callable[[], Shuffle] | None = None
        self.window = 0.0
        self.bytes = 0


class End(asyncio.Protocol):
    """A connection that is relayed, as seen from the client or from the server.

    Attributes:
        flow: what it reads goes there.
        on_made: called when it is open.
        closed: done when it is gone.
    """

    def __init__(self) -> None:
        self.transport: Any = None
        self.flow: Flow | None = None
        self.on_made: Callable[[End], object] | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.full = False
        # The flow that delivers here.
        self.inflow: Flow | None = None

    @property
    def open(self) -> bool:
        """True if something can be written to it."""
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        """End it at once."""
        if self.transport is not None and not self.closed.done():
            self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self.on_made is not None:
            self.on_made(self)
        for flow in (self.flow, self.inflow):
            if flow is not None:
                flow.pump()

    def data_received(self, data: bytes) -> None:
        if self.flow is not None:
            self.flow.feed(data)

    def eof_received(self) -> bool:
        if self.flow is not None:
            self.flow.end(_EOF)
        return True

    def pause_writing(self) -> None:
        self._set_full(True)

    def resume_writing(self) -> None:
        self._set_full(False)

    def _set_full(self, full: bool) -> None:
        self.full = full
        if self.inflow is not None:
            self.inflow.update_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
        if self.flow is not None:
            self.flow.end(_CLOSE if exc is None else _RESET)


class Flow:
    """From one end to the other: what was read there is written here, as its shape has it."""

    def __init__(self, shape: Shape, source: End, sink: End) -> None:
        self._shape = shape
        self._source = source
        self._sink = sink
        sink.inflow = self
        self._loop = asyncio.get_running_loop()
        # What is to be delivered, and when.
        self._queue: deque[tuple[float, bytes | str]] = deque()
        self._held = 0
        self._timer: asyncio.TimerHandle | None = None
        self._shuffle: Shuffle | None = None
        self._window: asyncio.TimerHandle | None = None
        self._left: int | None = None  # bytes until it is cut
        self._half_closed = False
        self._reading = True
        self.eof_delivered = False

    # -- in --------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """The source has sent something."""
        shape = self._shape
        shape.bytes += len(data)
        if self._half_closed:
            return
        if self._shuffle is None and shape.shuffle is not None:
            self._shuffle = shape.shuffle()
        if self._shuffle is None:
            self._put(data)
        else:
            self._shuffle.add(data)
            if self._window is None:
                self._window = self._loop.call_later(shape.window, self._end_window)

    def end(self, how: str) -> None:
        """The source sends no more, or is gone."""
        if how == _RESET:
            self._queue.clear()  # what was on its way is lost
            self._held = 0
        else:
            self._leave_shuffle()
        self._put(how)

    def half_close(self) -> None:
        """As if the source had sent its last."""
        if not self._half_closed:
            self.end(_EOF)
            self._half_closed = True

    def cut(self, after: int) -> None:
        """End after so many bytes more."""
        self._left = after
        if not after:
            self._cut()

    def heal(self) -> None:
        """The shape is none any more: deliver what is held."""
        self._leave_shuffle()
        self._queue = deque([(0.0, item) for _, item in self._queue])
        self.pump()

    def _put(self, item: bytes | str) -> None:
        self._queue.append((self._loop.time() + self._shape.delay, item))
        self._held += len(item) if isinstance(item, bytes) else 0
        self.pump()

    def _end_window(self) -> None:
        self._window = None
        if self._shuffle is not None:
            data = self._shuffle.take()
            if data:
                self._put(data)

    def _leave_shuffle(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._end_window()
        if self._shuffle is not None:
            self._put(self._shuffle.rest())
            self._shuffle = None

    # -- out -------------------------------------------------------------------------------

    def pump(self) -> None:
        """Deliver what is due."""
        queue = self._queue
        while queue and self._sink.transport is not None and not self._shape.dropping:
            due, item = queue[0]
            if due > self._loop.time():
                if self._timer is None:
                    self._timer = self._loop.call_at(due, self._on_timer)
                break
            queue.popleft()
            if isinstance(item, bytes):
                self._held -= len(item)
                self._deliver(item)
            else:
                self._deliver_end(item)
        self.update_reading()

    def _on_timer(self) -> None:
        self._timer = None
        self.pump()

    def _deliver(self, data: bytes) -> None:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if self._sink.open and not self.eof_delivered:
            self._sink.transport.write(data)
        if self._left == 0:
            self._cut()

    def _cut(self) -> None:
        if self._sink.transport is not None:
            self._sink.transport.close()
        self._source.abort()

    def _deliver_end(self, how: str) -> None:
        sink = self._sink
        if how == _RESET:
            sink.abort()
        elif how == _CLOSE:
            sink.transport.close()
        elif sink.open and not self.eof_delivered:
            self.eof_delivered = True
            sink.transport.write_eof()
            back = sink.flow
            if back is not None and back.eof_delivered:  # nothing flows any more
                sink.transport.close()
                self._source.transport.close()

    def update_reading(self) -> None:
        """Read from the source while there is room."""
        sink = self._sink
        room = sink.transport is not None and not sink.full and self._held <= HELD
        if room is not self._reading and self._source.open:
            self._reading = room
            if room:
                self._source.transport.resume_reading()
            else:
                self._source.transport.pause_reading()
