"""One connection: bytes from the transport to the reactor, messages to the transport.

::

    transport ── data_received ──> decoder ──> reactor.on_messages
    transport <── flush <── queue <── encoder <── send

An asyncio protocol by its method names alone: nothing here imports asyncio, so that the module
can be driven by any transport and be compiled. What leaves is batched: messages queue up, and
go to the transport in one write at the end of the turn of the loop, or every `flush_every`
messages, so that the peer can work on the first while this side is still making the last.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final, Generic, Protocol

from protosocket_rpc.errors import (
    ConnectionClosed,
    FrameTooLarge,
    OutputQueueFull,
    ProtocolError,
)
from protosocket_rpc.native import mypyc_attr
from protosocket_rpc.raw.allocator import keep_large_blocks
from protosocket_rpc.raw.codec import Codec, Inbound, Outbound
from protosocket_rpc.raw.direct import Direct, reads_directly, swap
from protosocket_rpc.raw.limits import Limits
from protosocket_rpc.raw.reactor import Reactor
from protosocket_rpc.raw.unfinished import Unfinished

# A message from this size on goes to the transport by itself: joining it to others would copy it.
LARGE: Final = 32 * 1024

# A server reads nothing from a peer that reads slowly while more messages than that wait for it.
MOST_WAITING: Final = 100

# What was queued for a peer that did not read goes to the transport in pieces of this size.
_PIECE: Final = 256 * 1024

_FEWEST_PER_FLUSH: Final = 2
_MOST_PER_FLUSH: Final = 16
# Who sends on and on, and hears nothing meanwhile, spends more on system calls than a wait costs.
_MOST_PER_BURST: Final = 64


class Registry(Protocol):
    """Knows the open connections of a server. A set will do."""

    def add(self, connection: Any, /) -> None: ...

    def discard(self, connection: Any, /) -> None: ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Generic[Inbound, Outbound]):
    """A stream of messages in each direction over one socket. Also the sender of its reactor.

    Made by `connect()` and `serve()`. Everything here must be called on the loop's own thread.

    Attributes:
        flush_every: the number of messages after which queued output is written out at once.
            Follows the traffic; see `pace`.
        heard: set whenever bytes arrive; who wants to know since when clears it.
    """

    __slots__ = (
        "_alone",
        "_close_waiters",
        "_closing",
        "_codec",
        "_eof",
        "_failure",
        "_flush_due",
        "_in_turn",
        "_limits",
        "_loop",
        "_lost",
        "_out",
        "_overtaken",
        "_queued",
        "_reactor",
        "_read_due",
        "_reading_paused",
        "_reads_only_while_writable",
        "_registry",
        "_stalled",
        "_transport",
        "_unfinished",
        "_writable_due",
        "_writable_waiters",
        "flush_every",
        "heard",
    )

    def __init__(
        self,
        loop: Any,
        codec: Codec[Inbound, Outbound],
        reactor: Reactor[Inbound, Outbound],
        limits: Limits,
        registry: Registry | None = None,
        *,
        reads_only_while_writable: bool = False,
    ) -> None:
        """Use `connect()` or `serve()`.

        Args:
            registry: is told of this connection while it is open.
            reads_only_while_writable: stop reading from a peer that does not read: it must not
                make this side hold all the answers. One that reads slowly is read from once each
                time that all it was sent has left, unless more than MOST_WAITING messages wait.
                For servers only: if both sides did so, each could wait for the other for ever.
        """
        self._loop = loop
        self._codec = codec
        self._reactor = reactor
        self._limits = limits
        self._registry = registry
        self._reads_only_while_writable = reads_only_while_writable
        self._reading_paused = False
        self._read_due = False
        self._eof = False
        self._transport: Any = None
        self._closing = False
        self._lost = False
        # Lists that an idle connection does without.
        self._close_waiters: list[Any] | None = None
        self._writable_waiters: list[Any] | None = None
        # How many of them, the first, found that who was woken before has used up the room.
        self._overtaken = 0
        self._failure: Exception | None = None
        # Input: what has arrived of a message that has not all arrived.
        self._unfinished: Unfinished | None = None
        # Output.
        self._out: list[bytes] = []
        self._queued = 0
        self._stalled = False
        self._in_turn = False
        self._flush_due = False
        self._writable_due = False
        self.flush_every = _FEWEST_PER_FLUSH
        self._alone = False
        self.heard = False

    def __repr__(self) -> str:
        state = "closed" if self._closing else "stalled" if self._stalled else "open"
        return f"<Connection {state} peer={self.get_extra_info('peername')!r}>"

    # -- what a reactor uses ---------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """False while the peer does not read what it was already sent, and after the end."""
        return not (self._stalled or self._closing)

    @property
    def closing(self) -> bool:
        """True from the moment that nothing more can be sent."""
        return self._closing

    @property
    def failure(self) -> Exception | None:
        """Why the connection has ended or is ending; None while it is well, or was closed."""
        return self._failure

    @property
    def reactor(self) -> Reactor[Inbound, Outbound]:
        """The one that messages go to; after the end, one of nobody's."""
        return self._reactor

    @property
    def queued(self) -> int:
        """Bytes of output that wait for the peer to read."""
        return self._queued

    def send(self, message: Outbound) -> None:
        """Queue one message. Messages arrive in the order of these calls.

        Raises:
            ConnectionClosed: the connection has ended.
            OutputQueueFull: the peer does not read, and too much waits for it already.
        """
        self.write(self._codec.encode(message))

    def write(self, data: bytes) -> None:
        """Queue bytes that are already encoded. Raises as `send` does."""
        out = self._out
        if self._stalled or self._closing:
            self._write_stalled(data)
        elif len(data) >= LARGE:
            keep_large_blocks()
            self.flush()
            if self._stalled:
                self._write_stalled(data)
            else:
                self._out.append(data)
                self.flush()
        else:
            out.append(data)
            if self._alone:
                self._alone = False  # what follows in this turn waits for the others
                self.flush()
            elif self._in_turn or self._flush_due:
                if len(out) < self.flush_every:
                    pass
                elif self._transport.is_closing():
                    self._stop_output()
                else:
                    self._hand_over(out)
                    if self.flush_every < _MOST_PER_BURST:  # a burst: fewer, larger writes
                        self.flush_every <<= 1
            else:
                self._flush_due = True
                self._loop.call_soon(self._end_turn)

    def write_parts(self, parts: list[Any]) -> None:
        """Queue one large message that comes in parts, which are not joined. Raises as `send`.

        Args:
            parts: bytes, or views of bytes, which must not change any more.
        """
        keep_large_blocks()
        self.flush()
        if self._stalled or self._closing:
            self._write_stalled(b"".join(parts))
        elif self._transport.is_closing():
            self._out.append(b"".join(parts))
            self._stop_output()
        else:
            # All in one system call: each wakes the peer.
            self._transport.writelines(parts)
            # asyncio's of 3.12 and 3.13 does not see by itself that the peer does not read.
            with contextlib.suppress(AttributeError):  # as in `_update_reading`
                self._transport.set_write_buffer_limits(high=1)

    def _write_stalled(self, data: bytes) -> None:
        if self._closing:
            raise self._closed_error("the connection is closed")
        if self._queued >= self._limits.max_queued_output:
            raise OutputQueueFull(
                f"{self._queued} bytes wait for {self.get_extra_info('peername')}, which does not "
                f"read; max_queued_output is {self._limits.max_queued_output}"
            )
        self._out.append(data)
        self._queued += len(data)

    def flush(self) -> None:
        """Hand all that is queued to the transport now."""
        out = self._out
        if out and not self._stalled:
            if self._transport.is_closing():
                self._stop_output()
            else:
                self._hand_over(out)

    def _hand_over(self, out: list[bytes]) -> None:
        # In two steps: the transport may call back. In place: a list for each write of each of many
        # connections would all be there when the collector comes.
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._transport.write(data)

    def _stop_output(self) -> None:
        """The transport has failed; it says so in the next turn of the loop.

        Until then it would log a warning for each write, and who sends for as long as there is
        room would go on for ever.
        """
        self._stalled = True
        self._queued = sum([len(data) for data in self._out])

    def pace(self, in_flight: int) -> None:
        """Batch output for so many messages under way: a quarter of them, from 2 to 16.

        With all of them in one write, the two sides would take turns instead of working at the
        same time. Where one is under way, the next message leaves at once: what else there is to
        do for it is done while the peer works.
        """
        every = in_flight >> 2
        if every > _MOST_PER_FLUSH:
            every = _MOST_PER_FLUSH
        elif every < _FEWEST_PER_FLUSH:
            every = _FEWEST_PER_FLUSH
        self.flush_every = every
        self._alone = in_flight == 1

    async def drain(self) -> None:
        """Wait until the peer has read enough for more to be sent.

        Who has waited for longest is next, if who was before it has left any room.

        Raises:
            ConnectionClosed: the connection ended first.
        """
        woken = False
        while not self._closing:
            if not self._stalled:
                return
            waiter = self._loop.create_future()
            if self._writable_waiters is None:
                self._writable_waiters = []
            if woken:
                self._writable_waiters.insert(self._overtaken, waiter)
                self._overtaken += 1
            else:
                self._writable_waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                self._leave_drain(waiter)
                raise
            woken = True
        raise self._closed_error("the connection is closed")

    def _leave_drain(self, waiter: Any) -> None:
        # A method, for mypyc: within drain(), the list would have to be there for ever.
        place = _leave(self._writable_waiters, waiter)
        if 0 <= place < self._overtaken:
            self._overtaken -= 1

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, and `on_close` was called. Raises nothing."""
        if not self._lost:
            waiters = self._close_waiters
            if waiters is None:
                waiters = self._close_waiters = []
            waiter = self._loop.create_future()
            waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                _leave(waiters, waiter)
                raise

    def request_writable(self) -> None:
        """Have `on_writable` called: in the next turn of the loop, or when the peer reads again.

        For a reactor with much to send, that gives way to others between its pieces.
        """
        if not (self._stalled or self._writable_due):
            self._writable_due = True
            self._loop.call_soon(self._tell_writable)

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`: the peer is stopped by its own full buffers.

        What was read already may still arrive.
        """
        self._reading_paused = True
        self._update_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        self._reading_paused = False
        self._update_reading()

    def _update_reading(self) -> None:
        # After the peer's end, resuming would have it told again.
        if self._closing or self._eof:
            return
        held = self._stalled and self._reads_only_while_writable and not self._read_due
        # asyncio's TLS of Python 3.10 has no transport any more when its end is on its way.
        with contextlib.suppress(AttributeError):
            if self._reading_paused or held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def close(self) -> None:
        """Send what is queued, then close. Does nothing the second time.

        What the peer sends from now on is not read.
        """
        if not self._closing:
            self.flush()
            self._closing = True
            if self._out:  # only while stalled: the transport keeps it behind what it holds
                self._transport.write(b"".join(self._out))
                self._out = []
                self._queued = 0
            self._transport.close()
            self._fail_writable_waiters()

    def abort(self, cause: Exception) -> None:
        """Drop what is queued and close at once; `cause` is what `on_close` is told."""
        if self._lost:
            return
        if self._failure is None:
            self._failure = cause
        self._closing = True
        self._stalled = True  # nothing of what is queued leaves any more
        self._transport.abort()
        self._fail_writable_waiters()

    def give_up(self) -> None:
        """The attempt to connect has failed, or was cancelled; it may have come up all the same.

        uvloop closes the transport then without a word.
        """
        if self._transport is not None:
            self.abort(ConnectionClosed("the attempt to connect was given up"))

    def unsent(self) -> list[bytes]:
        """For `Reactor.on_close`: what was written here and never left, in order."""
        return self._out

    def _fail(self, error: BaseException) -> None:
        """End the connection because of what its codec or its reactor raised."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise error  # these end the program, as everywhere in asyncio
        if self._failure is not None:
            return
        failure: Exception
        if isinstance(error, Exception):
            failure = error
            if isinstance(error, ProtocolError):
                _forget_tracebacks(error)
        else:
            failure = ConnectionClosed(f"{type(error).__name__} was raised")
            failure.__cause__ = error
        if self._closing:
            if not isinstance(error, ConnectionClosed):  # which is how sending fails from now on
                self._failure = failure
            return
        self._failure = failure
        try:
            self._reactor.on_failure(failure)
        except Exception as second:
            self._report("on_failure() of a reactor failed", second)
        self.flush()
        if self._stalled:
            self.abort(failure)  # last words do not wait for the peer
        else:
            self.close()

    def _fail_writable_waiters(self) -> None:
        waiters = self._writable_waiters
        self._writable_waiters = None
        for waiter in waiters or ():
            if not waiter.done():
                text = "the connection ended before its peer had read enough"
                waiter.set_exception(self._closed_error(text))

    def _closed_error(self, text: str) -> ConnectionClosed:
        error = ConnectionClosed(text)
        error.__cause__ = self._failure  # "raise ... from" is lost on mypyc
        return error

    def _report(self, message: str, error: Exception) -> None:
        context = {"message": message, "exception": error, "protocol": self}
        self._loop.call_exception_handler(context)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What asyncio's transport knows: ``peername``, ``sockname``, ``ssl_object``, ...

        It may know nothing any more once `on_close` was called.
        """
        if self._transport is None:
            return default
        try:
            return self._transport.get_extra_info(name, default)
        except AttributeError:  # asyncio's TLS, after the end
            return default

    # -- what a transport calls (asyncio.Protocol) -----------------------------------------

    def connection_made(self, transport: Any) -> None:
        # The transport is to say at once when the peer stops reading: the queue is kept here.
        # 1, not 0: asyncio's TLS takes an empty buffer to have reached a limit of 0.
        transport.set_write_buffer_limits(high=1)
        self._transport = transport
        try:
            self._reactor.on_open(self)
        except BaseException as error:
            self._fail(error)
        if self._registry is not None:
            self._registry.add(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self.heard = True
        if self._unfinished is not None:
            all_of_it = self._unfinished.add(data)
            if all_of_it is None:
                return
            self._unfinished = None
            data = all_of_it
        messages: list[Inbound] = []
        self._in_turn = True
        try:
            try:
                end = self._codec.decode(data, messages)
            finally:
                if messages:
                    self.pace(len(messages))
                    self._reactor.on_messages(messages)
            if end != len(data):
                self._keep(data, end)
        except BaseException as error:
            self._fail(error)
        self._in_turn = False
        if self._stalled:
            self._read_due = False
            self._update_reading()
        elif self._out:
            self.flush()
        if len(data) >= LARGE:
            self._read_rest()

    def _read_rest(self) -> None:
        """Read the rest of a large message into the codec's own memory, if it has begun one."""
        if (
            not self._closing
            and getattr(self._codec, "unfinished", False)
            and hasattr(self._codec, "room")
            and reads_directly(self._transport, self)
            and self.room() is not None
        ):
            swap(self._transport, Direct(self, self._transport))

    def room(self) -> Any:
        """For `Direct`."""
        codec: Any = self._codec
        return codec.room()

    def filled(self, size: int) -> None:
        """For `Direct`: more of a large message has arrived."""
        if self._closing:
            return
        self.heard = True
        codec: Any = self._codec
        codec.filled(size)
        if self._stalled:
            self._read_due = False
            self._update_reading()

    def _keep(self, data: bytes, end: int) -> None:
        """Hold the unfinished message at the end of `data`, or note what is to be skipped."""
        size = len(data) - end
        if size < 0:
            self._unfinished = Unfinished(b"", 0, -size)
            return
        needed = self._codec.needed()
        limit = self._limits.max_buffer
        if needed > limit or size > limit:
            raise FrameTooLarge(
                f"the peer sends a message of {needed or size} bytes; Limits.max_buffer is {limit}"
            )
        if needed >= LARGE:
            keep_large_blocks()
        self._unfinished = Unfinished(data[end:], needed if needed > size else size + 1, 0)

    def _in_message(self) -> bool:
        """True while a message has arrived in part."""
        return self._unfinished is not None or bool(getattr(self._codec, "unfinished", False))

    def eof_received(self) -> bool:
        self._eof = True
        if self._closing:
            return False
        if self._in_message():
            self._fail(ConnectionClosed("the peer closed in the middle of a message"))
            return False
        try:
            stay = self._reactor.on_eof()
        except BaseException as error:
            self._fail(error)
            return False
        # TLS cannot be closed in one direction only; asyncio logs a warning if it is asked to.
        if stay and not self._closing and self.get_extra_info("sslcontext") is None:
            return True
        self.close()
        return False

    def pause_writing(self) -> None:
        # Before the connection is open, this is about the end of TLS's handshake, which asyncio
        # would not send while reading is paused.
        if self._transport is not None:
            self._stalled = True
            self._queued = sum([len(data) for data in self._out])
            self._update_reading()

    def resume_writing(self) -> None:
        # Not at once: asyncio's transport, in the middle of a write of its own, does not expect one
        # that fails, and would call `connection_lost` twice, first without the cause.
        if self._stalled:
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        try:
            gone = self._closing or self._transport.is_closing()
        except AttributeError:  # as in `_update_reading`
            gone = True
        if gone:
            return
        self._stalled = False
        self._flush_queued()
        if self._stalled or self._closing:
            return
        waiters = self._writable_waiters
        self._writable_waiters = None
        self._overtaken = 0
        # What waits goes first, and may fill the transport again before the loop has read at all:
        # then a read is due, or the peer would not be heard until everything has left.
        self._read_due = self._reactor.backlog() + len(waiters or ()) <= MOST_WAITING
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        self._tell_writable()
        self._update_reading()

    def _flush_queued(self) -> None:
        """Hand over what waits, piece by piece, for as long as the peer reads."""
        out = self._out
        queued = self._queued
        self._out = []
        start = 0
        while start < len(out) and not self._stalled:
            end = start
            size = 0
            while end < len(out) and size < _PIECE:
                size += len(out[end])
                end += 1
            queued -= size
            self._transport.write(b"".join(out[start:end]))
            start = end
        if start < len(out):
            self._out = out[start:]
        self._queued = queued

    def _tell_writable(self) -> None:
        self._writable_due = False
        if self._stalled or self._closing:
            return
        try:
            self._reactor.on_writable()
        except BaseException as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._failure is None:
            if exc is None and not self._closing and self._in_message():
                exc = ConnectionClosed("the peer closed in the middle of a message")
            self._failure = exc
        self._closing = True
        self._stalled = True
        self._lost = True
        self._unfinished = None
        self._fail_writable_waiters()
        if self._registry is not None:
            self._registry.discard(self)
        reactor = self._reactor
        # The reactor often holds this connection: not both, or only the collector frees them.
        self._reactor = Reactor()
        try:
            reactor.on_close(self._failure)
        except Exception as error:
            self._report("on_close() of a reactor failed", error)
        # Closed already, but asyncio's TLS of Python 3.10 warns unless it has been told so.
        self._transport.close()
        self._out = []
        self._queued = 0
        waiters = self._close_waiters
        self._close_waiters = None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _end_turn(self) -> None:
        self._flush_due = False
        self.flush()


def _leave(waiters: list[Any] | None, waiter: Any) -> int:
    """Nobody waits for `waiter` any more: where it was among the others, or -1."""
    if waiters is None or waiter not in waiters:
        return -1
    place = waiters.index(waiter)
    del waiters[place]
    return place


def _forget_tracebacks(error: BaseException | None) -> None:
    """The peer's fault: where it was noticed says little, but would keep the connection alive."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
