"""What a handler sees of its RPC: ``grpc.aio.ServicerContext``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from protosocket_rpc.errors import AbortError, UsageError
from protosocket_rpc.metadata import (
    Metadata,
    MetadataLike,
    Pairs,
    metadata_from_wire,
    metadata_to_wire,
)
from protosocket_rpc.service.compression import Compression, wire_compression
from protosocket_rpc.service.flow import MessageRefused
from protosocket_rpc.service.handler import Handler
from protosocket_rpc.service.limits import too_large
from protosocket_rpc.service.parsing import parse_failure
from protosocket_rpc.service.server_session import ServerRpc
from protosocket_rpc.service.waiters import Waiters, wait, wake
from protosocket_rpc.status import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    INTERNAL,
    RESOURCE_EXHAUSTED,
    UNKNOWN,
    Status,
    StatusCode,
    to_status_code,
)
from protosocket_rpc.wire.frame import Frame

if TYPE_CHECKING:
    from protosocket_rpc.service.current import MadeCall
    from protosocket_rpc.service.server_connection import ServiceConnection

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_log = logging.getLogger("protosocket_rpc.server")


class _EOFType:
    """What `read()` gives after the last message."""

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<grpc.aio.EOF>"


EOF: Final = _EOFType()
NOT_HERE: Final = object()
_FAILED: Final = "the handler failed; the server's log says how"


class ServicerContext(ServerRpc, Generic[Request, Reply]):
    """One RPC, as its handler sees it. The second argument of every handler."""

    _details: str = ""
    _metadata_sent: bool = False
    _reads: str = ""
    _stopped: bool = False
    _stop_code: int = 0
    _stop_message: str = ""
    _status_details: tuple[bytes, ...] = ()
    _initial_pairs: Pairs | None = None
    # Set by interceptors that want to see what read() and write() pass on.
    requests: AsyncIterator[Any] | None = None
    writes: Callable[[Any], Awaitable[None]] | None = None

    def __init__(self, connection: ServiceConnection, opening: Frame, handler: Handler) -> None:
        # What most RPCs read or are given is set here, as in Call.
        self.id = opening.id
        self.session = connection
        self.connection = connection
        self.opening = opening
        self.handler = handler
        self.streams_requests = handler.streams_requests
        self.streams_replies = handler.streams_replies
        self.send = None
        self.receive = None
        self.ended = False
        self.compression = 0
        self._initial_metadata = b""
        self._deadline: float | None = None
        self.bucket = None
        self._task: asyncio.Task[None] | None = None
        self._handler_done = False
        self._code: StatusCode | None = None
        self._trailers: Pairs | None = None
        self._callbacks: list[Callable[[Any], Any]] | None = None
        # Calls in flight that the handler has made, while they are to end with this RPC.
        self._calls: set[MadeCall] | None = None
        if self.streams_replies:
            self._writers: Waiters = []
        if self.streams_requests:
            self._readers: Waiters = []

    # -- running the handler ---------------------------------------------------------------

    def start(self) -> None:
        """Take in the opening frame, and start the handler as soon as it has what it needs."""
        opening = self.opening
        if self.handler.timeout_us and (opening.plain or not opening.timeout_us):
            # The caller does not know of the method's default.
            opening.timeout_us = self.handler.timeout_us
            opening.plain = False
        if not opening.plain and opening.timeout_us:
            self._deadline = self.connection.deadline_of(opening)
            if self._deadline is None:
                self.fail(DEADLINE_EXCEEDED, "Deadline Exceeded")
                return
        if self.open():
            if self.streams_requests:
                task = self.connection.runner.start(self.handler.serve(self, _Requests(self)))
                if task is not None:
                    self._go_on(task)
            if self._task is None and self._deadline is not None and not self.ended:
                # The rest of the request is still to come, or of a large reply is to leave.
                self._expect_deadline(self._deadline)

    def on_request(self, body: bytes) -> None:
        handler = self.handler
        try:
            request = handler.parse(body)
        except Exception as error:  # what the message library raises is its own affair
            self.fail_unparsed(error)
            return
        task = self.connection.runner.start(handler.serve(self, request))
        if task is not None:
            self._go_on(task)

    def fail_unparsed(self, error: Exception) -> None:
        """End the RPC because of a request that does not parse."""
        method = self.handler.method
        _log.warning(
            "%s: %s from %s does not parse: %r",
            method.path,
            method.request.name,
            self.peer(),
            error,
        )
        self.fail(*parse_failure(error, "Exception deserializing request!"))

    def _go_on(self, task: asyncio.Task[None]) -> None:
        """The handler waits for something: `task` runs the rest of it."""
        self._task = task
        self.connection.tasks.add(task)
        if self._deadline is not None and self.bucket is None and not self.ended:
            self._expect_deadline(self._deadline)
        if self._stopped:
            task.cancel()

    def _expect_deadline(self, deadline: float) -> None:
        self.connection.deadlines.add(self, deadline, self.opening.timeout_us / 1e6)

    def on_handler_done(self) -> None:
        """The handler's coroutine has ended; nothing of it runs any more."""
        self._handler_done = True
        task = self._task
        if task is not None:
            self.connection.tasks.discard(task)
            self._task = None
        if self.bucket is not None and self.ended:  # not if a large reply is on its way
            self.connection.deadlines.remove(self)
        if self._callbacks is not None:
            callbacks = self._callbacks
            self._callbacks = None
            for callback in callbacks:
                self.connection.loop.call_soon(callback, self)

    def on_stopped(self, code: int, message: str) -> None:
        self._stopped = True
        self._stop_code = code
        self._stop_message = message
        if self.bucket is not None:
            self.connection.deadlines.remove(self)
        if self._task is not None:
            self._task.cancel()
        if self._calls is not None:
            for call in list(self._calls):
                call.on_parent_stopped(code)

    def on_found(self, path: str) -> None:
        """Interceptors have asked for the handler, and one that was not added has `path`."""

    def on_rejected(self, message: str) -> None:
        _log.info("%s: rejected, from %s: %s", self.method(), self.peer(), message)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the handler runs on."""
        return self.connection.loop

    def adopt(self, call: MadeCall) -> None:
        """End `call` if this RPC ends over the head of its handler, or at once if it has."""
        if self._calls is None:
            self._calls = {call}
        else:
            self._calls.add(call)
        # Last: the call may be made in a thread, while this RPC ends.
        if self._stopped:
            call.on_parent_stopped(self._stop_code)

    def disown(self, call: MadeCall) -> None:
        """`call` has ended."""
        if self._calls is not None:
            self._calls.discard(call)

    def on_deadline(self) -> None:
        self.stop(DEADLINE_EXCEEDED, "Deadline Exceeded")

    # -- the outcome -----------------------------------------------------------------------

    def finish_with(self, reply: Reply) -> None:
        """The handler of an RPC with one reply has returned it."""
        if self.ended:
            return
        if self._code is not None and self._code is not StatusCode.OK:
            self._fail(self._code.number, self._details)
            return
        body = self._serialize(reply)
        if body is not None:
            self.reply(body, self._trailers)

    def finish_stream(self) -> None:
        """The handler of an RPC with a reply stream has ended it."""
        if self.ended:
            return
        if self._code is not None and self._code is not StatusCode.OK:
            self._fail(self._code.number, self._details)
        else:
            self.end_stream(self._trailers)

    def finish_raised(self, error: BaseException) -> None:
        """The handler has raised. Whatever it was, the client gets exactly one answer."""
        loop = self.connection.loop
        if loop.is_closed():
            return  # the interpreter disposes of what the loop has left behind
        if not (self.ended and isinstance(error, (AbortError, asyncio.CancelledError))):
            self._log_raised(error)
            try:
                self._fail(*self.outcome_of(error))
            except Exception as failure:  # whatever it is, the RPC is to end
                path = self.handler.method.path
                _log.error("%s: its status cannot be sent", path, exc_info=failure)
                self.fail(UNKNOWN, _FAILED)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            # As out of any task: these end the loop. Once the client has been told.
            loop.call_soon(_raise, error)

    def outcome_of(self, error: BaseException) -> tuple[int, str]:
        """The code and the text of the status that an exception of the handler stands for."""
        if self._stopped:
            return self._stop_code, self._stop_message
        if self._code is not None and self._code is not StatusCode.OK:
            return self._code.number, self._details
        if isinstance(error, asyncio.CancelledError):
            return CANCELLED, "the handler was cancelled"
        return UNKNOWN, _FAILED

    def _fail(self, code: int, message: str) -> None:
        self.fail(code, message, self._status_details, self._trailers)

    def _log_raised(self, error: BaseException) -> None:
        path = self.handler.method.path
        if isinstance(error, asyncio.CancelledError):
            _log.info("%s: the handler was cancelled, not by its client", path)
        elif self._code is not None and self._code is not StatusCode.OK:
            _log.info("%s: the handler set %s and raised %r", path, self._code.name, error)
        else:
            _log.error("%s: the handler raised, for %s", path, self.peer(), exc_info=error)

    def _serialize(self, reply: Reply) -> bytes | None:
        """The bytes of a reply; None if it has none, and the RPC was failed for it."""
        handler = self.handler
        try:
            body = handler.serialize(reply)
        except Exception as error:  # what the message library raises is its own affair
            _log.error(
                "%s: the handler gave %s, not %s: %r",
                handler.method.path,
                type(reply).__name__,
                handler.method.reply.name,
                error,
            )
            self.fail(INTERNAL, "Failed to serialize response!")
            return None
        limit = handler.max_reply_size
        if limit is None:
            limit = self.connection.limits.max_send_message_size
        if limit is not None and len(body) > limit:
            own = handler.max_reply_size is not None
            setting = "max_reply_size" if own else "max_send_message_size"
            text = too_large("Sent message", len(body), limit, "server", setting)
            self.fail(RESOURCE_EXHAUSTED, text)
            return None
        return body

    # -- messages --------------------------------------------------------------------------

    def send_reply(self, reply: Reply) -> bool:
        """Send one message of the reply stream. False: await `wait_sendable` before the next."""
        if self.ended:
            raise self._ended_error()
        body = self._serialize(reply)
        if body is None:
            raise AbortError
        return self.write_message(body)

    async def wait_sendable(self) -> None:
        """Wait until the client takes more."""
        while self.send is not None and self.send.pending:
            await wait(self._writers, self.connection.loop.create_future())
        if self.ended:
            raise self._ended_error()

    def on_sendable(self) -> None:
        if self.streams_replies:
            wake(self._writers)
        else:
            super().on_sendable()
            if self.bucket is not None:
                self.connection.deadlines.remove(self)

    def on_readable(self) -> None:
        if self._readers:
            wake(self._readers)

    def _ended_error(self) -> BaseException:
        """What leaves a handler that goes on after its RPC has ended."""
        return asyncio.CancelledError() if self._stopped else AbortError()

    def request_here(self, way: str) -> Any:
        """The next request if it is here; EOF after the last; NOT_HERE if it is still to come.

        Args:
            way: how it is asked for.
        """
        if self._reads != way:
            self._read_by(way)
        receive = self.receive
        if receive is None:
            return EOF
        try:
            body = receive.take()
        except MessageRefused as refused:
            self.stop(refused.code, str(refused))
            raise AbortError from None
        if body is not None:
            try:
                return self.handler.parse(body)
            except Exception as error:  # what the message library raises is its own affair
                self.fail_unparsed(error)
                raise AbortError from None
        if self.ended:
            raise self._ended_error()
        return EOF if receive.ended else NOT_HERE

    async def next_request(self, way: str) -> Any:
        """As `request_here`, and waits for it."""
        while True:
            request = self.request_here(way)
            if request is not NOT_HERE:
                return request
            await wait(self._readers, self.connection.loop.create_future())

    def _read_by(self, way: str) -> None:
        if self._reads:
            raise UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        self._reads = way

    async def read(self) -> Any:
        """The next request of a request stream; `EOF` after the last, for ever.

        Raises:
            UsageError: the request iterator was used already.
        """
        if self.requests is not None:
            return await anext(self.requests, EOF)
        return await self.next_request("read")

    async def write(self, message: Reply) -> None:
        """Send a message of a reply stream; returns when the next may be sent."""
        if not self.streams_replies:
            raise UsageError(f"{self.method()} has one reply: return it")
        if self.writes is not None:
            await self.writes(message)
            return
        await self.wait_sendable()  # for what another task sends
        if not self.send_reply(message):
            await self.wait_sendable()

    # -- metadata and status ---------------------------------------------------------------

    def method(self) -> str:
        """The method's path: ``/package.Service/Method``."""
        return self.opening.method

    def invocation_metadata(self) -> Metadata:
        """The metadata that came with the call."""
        return metadata_from_wire(self.opening.metadata)

    async def send_initial_metadata(self, initial_metadata: MetadataLike) -> None:
        """Send metadata before the first reply.

        Raises:
            UsageError: it was sent already.
            TypeError, ValueError: it is not metadata.
        """
        if self._metadata_sent:
            raise UsageError("the initial metadata was sent already")
        pairs = metadata_to_wire(initial_metadata)
        self._metadata_sent = True
        self._initial_pairs = pairs
        self.send_initial_pairs(pairs)

    def initial_metadata(self) -> Metadata:
        """What was sent by `send_initial_metadata`."""
        return metadata_from_wire(self._initial_pairs)

    def set_trailing_metadata(self, trailing_metadata: MetadataLike) -> None:
        """What is to be sent with the end. Raises TypeError, ValueError if it is no metadata."""
        self._trailers = metadata_to_wire(trailing_metadata)

    def trailing_metadata(self) -> Metadata:
        """What was set by `set_trailing_metadata`."""
        return metadata_from_wire(self._trailers)

    def set_code(self, code: StatusCode) -> None:
        """How the RPC is to end, when the handler returns. A code other than OK is an error."""
        self._code = to_status_code(code)

    def code(self) -> StatusCode:
        """What was set by `set_code`; OK before."""
        return self._code or StatusCode.OK

    def set_details(self, details: str) -> None:
        """The text that goes with the code."""
        self._details = _as_text(details)

    def details(self) -> str:
        """What was set by `set_details`."""
        return self._details

    async def abort(
        self,
        code: StatusCode,
        details: str = "",
        trailing_metadata: MetadataLike | None = None,
    ) -> NoReturn:
        """End the RPC with a status now, and leave the handler.

        Empty details leave what `set_details` has set, and no trailing metadata leaves what
        `set_trailing_metadata` has.

        Raises:
            AbortError: always. Catching it changes nothing: the RPC has ended.
            ValueError: the code is OK.
            TypeError: the code is no StatusCode, or the details are no text.
        """
        self._abort(code, details, trailing_metadata, ())

    async def abort_with_status(self, status: Status) -> NoReturn:
        """As `abort`, with what a status says; its details and trailing metadata go along.

        Raises:
            TypeError: as `abort`, or the rich details are not all bytes.
        """
        rich_details = _as_bytes(getattr(status, "rich_details", ()))
        self._abort(status.code, status.details, status.trailing_metadata, rich_details)

    def _abort(
        self,
        code: StatusCode,
        details: str,
        trailing_metadata: MetadataLike | None,
        rich_details: tuple[bytes, ...],
    ) -> NoReturn:
        code = to_status_code(code)
        if code is StatusCode.OK:
            raise ValueError("abort needs a code other than OK")
        details = _as_text(details) or self._details
        if trailing_metadata is not None:
            self._trailers = metadata_to_wire(trailing_metadata) or self._trailers
        self._code = code
        self._details = details
        self._status_details = rich_details
        self._fail(code.number, details)
        raise AbortError(f"{code.name}: {details}")

    # -- compression -----------------------------------------------------------------------

    def set_compression(self, compression: Compression) -> None:
        """How to compress the replies, if the client understands it.

        Raises:
            RuntimeError: it is Zstd, without its library.
            ValueError: there is no such compression.
        """
        self.compression = wire_compression(compression)

    def disable_next_message_compression(self) -> None:
        """Send the next reply as it is."""
        self.skip_compression = True

    # -- the call --------------------------------------------------------------------------

    def peer(self) -> str:
        """Who calls: ``ipv4:address:port``, ``ipv6:[address]:port`` or ``unix:``."""
        return self.connection.peer_name

    def auth_context(self) -> dict[str, list[bytes]]:
        """What is known of who calls: of its certificate, or of its process on a Unix socket.

        As in gRPC: ``transport_security_type``, and of a client with a certificate
        ``x509_common_name``, ``x509_subject_alternative_name`` and ``x509_pem_cert``. Over a Unix
        socket ``peer_pid``, ``peer_uid`` and ``peer_gid``, in decimal. Empty if nothing is known.
        """
        return dict(self.connection.auth.properties)

    def peer_identity_key(self) -> str | None:
        """Which property of the `auth_context` says who calls; None if none does."""
        return self.connection.auth.identity_key

    def peer_identities(self) -> list[bytes] | None:
        """Who calls: the values of that property; None if it is not known."""
        auth = self.connection.auth
        return None if auth.identity_key is None else auth.properties[auth.identity_key]

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None if there is none."""
        if self._deadline is None:
            return None
        return max(self._deadline - self.connection.loop.time(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call `callback` with this context when the handler has ended; soon, if it has."""
        if self._handler_done:
            self.connection.loop.call_soon(callback, self)
            return
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """True if the RPC ended over the head of its handler: cancelled, expired or lost."""
        return self._stopped

    def done(self) -> bool:
        """True if the client has its answer, or will never have one."""
        return self.ended


class _Requests(AsyncIterator[Any]):
    """The request stream, as a handler iterates over it."""

    __slots__ = ("_context",)

    def __init__(self, context: ServicerContext[Any, Any]) -> None:
        self._context = context

    async def __anext__(self) -> Any:
        request = self._context.request_here("async for")
        if request is NOT_HERE:
            request = await self._context.next_request("async for")
        if request is EOF:
            raise StopAsyncIteration
        return request


def _as_text(details: str) -> str:
    if not isinstance(details, str):
        raise TypeError(f"a status has a text as its details, not {details!r}")
    return details


def _as_bytes(details: Iterable[Any]) -> tuple[bytes, ...]:
    found = tuple(details)
    for each in found:
        if not isinstance(each, (bytes, bytearray, memoryview)):
            raise TypeError(f"the rich details of a status are bytes, not {type(each).__name__}")
    return tuple([bytes(each) for each in found])


def _raise(error: BaseException) -> NoReturn:
    raise error


async def unimplemented(context: ServicerContext[Any, Any]) -> NoReturn:
    """End an RPC with UNIMPLEMENTED: what a servicer's methods do until they are overridden."""
    await context.abort(StatusCode.UNIMPLEMENTED, "Method not implemented!")
