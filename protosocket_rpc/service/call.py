"""One RPC as its caller holds it: ``grpc.aio``'s Call, and the calls that end with one reply."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from protosocket_rpc.errors import AioRpcError, ConnectionClosed, OutputQueueFull, UsageError
from protosocket_rpc.metadata import Metadata, Pairs, metadata_from_wire, metadata_size
from protosocket_rpc.service.call_credentials import AuthMetadataContext, CallCredentials
from protosocket_rpc.service.client_session import ClientRpc
from protosocket_rpc.service.current import CURRENT_RPC, ServedRpc
from protosocket_rpc.service.debug import DebugString
from protosocket_rpc.service.explain import explain
from protosocket_rpc.service.limits import too_large
from protosocket_rpc.service.parsing import parse_failure
from protosocket_rpc.service.requests import RequestIterator, send_all
from protosocket_rpc.service.waiters import Waiters, wait, wake
from protosocket_rpc.status import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    OK,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    StatusCode,
    status_code,
)
from protosocket_rpc.wire.frame import Status, parse_frame, timeout_field
from protosocket_rpc.wire.metadata import metadata_field

if TYPE_CHECKING:
    from protosocket_rpc.service.channel_connection import ChannelConnection
    from protosocket_rpc.service.connector import Connector
    from protosocket_rpc.service.method import Method

Request = TypeVar("Request")
Reply = TypeVar("Reply")

# Seconds. More is no deadline, whatever default the method has.
_FOREVER: Final = 1e9
LOCALLY_CANCELLED: Final = "Locally cancelled by application!"
ALREADY_FINISHED: Final = "RPC already finished."
# Bytes of a request stream that are kept, in case that it has to be sent on another connection.
RESEND_LIMIT: Final = 64 * 1024
_REQUEST_OVERHEAD: Final = 64


def caught(error: BaseException) -> BaseException:
    """An exception for a call to keep: without the frame that caught it, which holds the call."""
    traceback = error.__traceback__
    return error if traceback is None else error.with_traceback(traceback.tb_next)


class Call(ClientRpc):
    """The part that calls of all four kinds share.

    Args:
        method: what is called.
        connector: where connections come from.
        timeout: seconds until the deadline; None for none.
        metadata: checked and encoded already.
        wait_for_ready: wait for a connection for as long as it takes (or the deadline).
    """

    retries: int = 0
    # Somebody other than who awaits the reply is to be told of the end. Not if it is plain.
    watched: bool = False
    # Requests come from an iterator, not from write().
    iterates: bool = False
    _details: str = ""
    _status: Status | None = None
    _cause: BaseException | None = None
    _callbacks: list[Callable[[Any], Any]] | None = None
    _waiters: Waiters | None = None
    _writers: Waiters | None = None
    _request_task: asyncio.Task[None] | None = None
    _writing_done: bool = False
    # Requests of a stream that were sent, in case that another connection has to take the call:
    # those that are still to be sent again, last first; and whether all of them are here.
    _sent: list[bytes] | None = None
    _sent_size: int = 0
    _resending: list[bytes] | None = None
    _resendable: bool = True
    _locally_cancelled: bool = False
    # The request iterator raised: that is the caller's error, and what the call raises.
    _request_failed: bool = False

    def __init__(
        self,
        method: Method,
        connector: Connector,
        timeout: float | None,
        metadata: bytes | None,
        wait_for_ready: bool | None,
    ) -> None:
        # What most calls read or are given is set here: a default costs more to look up, and what
        # only some objects have costs those a dictionary of their own, in Python 3.11 and 3.12.
        self.id = 0
        self.session = None
        self.send = None
        self.receive = None
        self.finished = False
        # Nothing goes along with the request, and the end is nothing to anybody but who awaits it.
        self.plain = True
        self.wait_for_ready = wait_for_ready
        self.body: bytes | None = None
        self._method = method
        self._connector = connector
        self._outcome = -1
        self._reply: Any = None
        # Of who awaits the reply; made by them, for it may be here by then.
        self._future: asyncio.Future[None] | None = None
        # When it was made, in the loop's time; 0.0 if nothing has asked for the time by then.
        self.started = 0.0
        self._deadline: float | None = None
        self.bucket = None
        # The RPC whose handler made this call, while that can still cancel it.
        self._parent: ServedRpc | None = None
        self._metadata = metadata
        if metadata is not None:
            self.plain = False
        if timeout is not None:
            if timeout != timeout:
                raise ValueError("a timeout is a number of seconds, not NaN")
            self.started = now = connector.loop.time()
            self._deadline = now + timeout if timeout < _FOREVER else math.inf
            self.plain = False
        parent = CURRENT_RPC.get()
        if parent is not None:
            self._inherit(parent)

    def _inherit(self, parent: ServedRpc) -> None:
        """The handler of `parent` makes this call: it has no more time than `parent` has."""
        if parent.ended and not parent.cancelled():
            return  # what outlives an RPC that ended well is on its own
        self._parent = parent
        self.plain = False
        self.watched = True
        left = parent.time_remaining()
        if left is not None:
            self.started = now = self._connector.loop.time()
            deadline = now + left
            if self._deadline is None or deadline < self._deadline:
                self._deadline = deadline

    def __repr__(self) -> str:
        state = status_code(self._outcome).name if self.finished else "in flight"
        return f"<{type(self).__name__} {self._method.path} {state}>"

    # -- starting --------------------------------------------------------------------------

    def start(self) -> None:
        """Send the call's first frame, or leave it to the connector to do so."""
        if not (self.plain or self._may_start()):
            return
        session = self._connector.session
        if session is not None:
            self.open_on(session)
        else:
            self._connector.wait(self)

    def _may_start(self) -> bool:
        """Begin to watch the deadline and the RPC it is made in. False if either has ended it."""
        if self._deadline is not None:
            if self._deadline <= self.started:
                self.on_deadline()
                return False
            left = self._deadline - self.started
            if left < _FOREVER:
                self._connector.deadlines.add(self, self._deadline, left)
        if self._parent is not None:
            self._parent.adopt(self)
        return not self.finished

    def add_metadata(self, pairs: Pairs) -> None:
        """Have more metadata go with the request. Before it is started."""
        self.plain = False
        self._metadata = (self._metadata or b"") + metadata_field(pairs)

    def start_authenticated(
        self, credentials: CallCredentials, context: AuthMetadataContext
    ) -> None:
        """As `start`, once the credentials have given their metadata."""
        if self._may_start():
            connector = self._connector
            task = connector.loop.create_task(self._authenticate(credentials, context))
            connector.authenticating[task] = self
            task.add_done_callback(connector.authenticating.pop)
            self.add_done_callback(lambda _: task.cancel())

    async def _authenticate(
        self, credentials: CallCredentials, context: AuthMetadataContext
    ) -> None:
        try:
            pairs = await credentials.metadata(context)
        except BaseException as error:  # the plugin's own, unless the call has ended
            why = str(error) or type(error).__name__
            text = f"Getting metadata from plugin failed with error: {why}"
            self.fail(UNAVAILABLE, text, caught(error))
            if isinstance(error, Exception):
                return
            raise
        if not self.finished:
            self.add_metadata(pairs)
            self._connector.wait(self)
            self._connector.wake_watchers()  # who waits for its connection may not have to

    def open_on(self, session: ChannelConnection, now: float = 0.0) -> None:
        """Open the RPC on a connection.

        Args:
            now: the loop's time, if it is not that at which the call was made.
        """
        body = self.body
        fields = b""
        if not self.plain:
            if self._deadline is not None:
                left = self._deadline - (now or self.started)
                if left > _FOREVER:
                    left = _FOREVER  # to be told, or the server has its own default
                fields = timeout_field(max(int(left * 1e6 + 0.5), 1))
            metadata = self._metadata
            if metadata is not None:
                fields += metadata
                peer = session.peer
                # The limit counts keys and values, which are less than their fields.
                if (
                    peer is not None
                    and len(metadata) > peer.max_metadata_size
                    and not self._check_metadata(metadata, peer.max_metadata_size)
                ):
                    return
            if self.compression and body is not None:
                body, field = session.compress(self.compression, body)
                fields += field
        try:
            session.open(self, self._method.field, body, fields)
        except OutputQueueFull as error:
            self.fail(RESOURCE_EXHAUSTED, str(error), error.with_traceback(None))
            return
        except ConnectionClosed:
            self._connector.on_closing(session)
            self._connector.wait(self)
            return
        if body is None:  # a stream of requests
            self.on_sendable()

    def _check_metadata(self, metadata: bytes, limit: int) -> bool:
        """False, and the call has failed, if the server has said that this is too much for it."""
        size = metadata_size(parse_frame(metadata, 0, len(metadata)).metadata or [])
        if limit and size > limit:
            text = too_large("Sent metadata", size, limit, "server", "max_metadata_size")
            self.fail(RESOURCE_EXHAUSTED, text, None)
            return False
        return True

    def on_refused(self, reason: str) -> None:
        if not self._resendable:
            self._cause = ConnectionClosed(reason)
            message = f"{reason}; more requests were sent than are kept to be sent again"
            self.finish(UNAVAILABLE, message, None)
            return
        self.leave()
        self.retries += 1
        if self.streams_requests:
            self._resending = list(reversed(self._sent or ()))
        self._connector.wait(self)

    def fail(self, code: int, message: str, cause: BaseException | None) -> None:
        """End the RPC from this side."""
        if not self.finished:
            self._cause = cause
            self.abandon(code, message)

    # -- the outcome -----------------------------------------------------------------------

    def on_deadline(self) -> None:
        self.abandon(DEADLINE_EXCEEDED, "Deadline Exceeded")

    def on_parent_stopped(self, code: int) -> None:
        """The RPC whose handler made this call has ended over the handler's head."""
        loop = self._connector.loop
        if self._parent is not None and loop is not self._parent.loop:
            self._parent = None  # that handler runs in another thread
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the call with it
                loop.call_soon_threadsafe(self.on_parent_stopped, code)
        elif code == DEADLINE_EXCEEDED:
            self.on_deadline()
        else:
            self.fail(CANCELLED, "the RPC that this call was made for was cancelled", None)

    def on_connection_lost(self, error: ConnectionClosed) -> None:
        self._cause = error.__cause__ or error
        self.finish(UNAVAILABLE, str(error), None)

    def on_finished(self, code: int, message: str, status: Status | None) -> None:
        self._outcome = code
        self._details = message
        self._status = status
        self._on_done()

    def _on_done(self) -> None:
        """The outcome is known: let go of what was needed for it, and tell who waits."""
        if self.bucket is not None:
            self._connector.deadlines.remove(self)
        if self._parent is not None:
            self._parent.disown(self)
            self._parent = None
        task = self._request_task
        if task is not None:
            self._request_task = None
            task.cancel()
        if self._writers is not None:
            wake(self._writers)
        if self._waiters is not None:
            wake(self._waiters)
        callbacks = self._callbacks
        if callbacks is not None:
            self._callbacks = None
            for callback in callbacks:
                self._connector.loop.call_soon(callback, self.handle())

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it is made on."""
        return self._connector.loop

    def handle(self) -> Any:
        """What the caller holds of this call."""
        return self

    def error(self) -> BaseException:
        """What awaiting the call raises."""
        if self._locally_cancelled:
            return asyncio.CancelledError(LOCALLY_CANCELLED)
        cause = self._cause
        if cause is not None and self._request_failed:
            # Once: a call that held what it has raised would be a cycle, through the traceback.
            self._cause = None
            return cause
        details = () if self._status is None else self._status.details
        error = AioRpcError(
            status_code(self._outcome),
            metadata_from_wire(self.initial_metadata_pairs),
            metadata_from_wire(self.trailers),
            self._details,
            explain(self._connector, self, self._method.path, self._outcome, self._cause),
            details,
        )
        error.__cause__ = cause
        return error

    async def _wait_done(self) -> None:
        if not self.finished:
            self.plain = False
            self.watched = True
            if self._waiters is None:
                self._waiters = []
            await wait(self._waiters, self._connector.loop.create_future())

    def on_initial_metadata(self) -> None:
        if self._waiters is not None:
            wake(self._waiters)

    # -- what the caller asks --------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the RPC. False if it has ended already."""
        if self.finished:
            return False
        self._locally_cancelled = True
        self.abandon(CANCELLED, LOCALLY_CANCELLED)
        return True

    def cancelled(self) -> bool:
        """True if the RPC ended with CANCELLED."""
        return self._outcome == CANCELLED

    def done(self) -> bool:
        """True if the RPC has ended."""
        return self.finished

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None if there is none."""
        if self._deadline is None or self._deadline == math.inf:
            return None
        return max(self._deadline - self._connector.loop.time(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call `callback` with this call when it has ended; soon, if it has."""
        if self.finished:
            self._connector.loop.call_soon(callback, self.handle())
            return
        self.plain = False
        self.watched = True
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    async def initial_metadata(self) -> Metadata:
        """What the server sends before its first message; waits for it."""
        while self.initial_metadata_pairs is None and not self.finished:
            await self._wait_done()
        return metadata_from_wire(self.initial_metadata_pairs)

    async def trailing_metadata(self) -> Metadata:
        """What the server sends with the end; waits for it."""
        await self._wait_end()
        return metadata_from_wire(self.trailers)

    async def code(self) -> StatusCode:
        """How the RPC ended; waits for it."""
        await self._wait_end()
        return status_code(self._outcome)

    async def details(self) -> str:
        """The text that came with the code; waits for it."""
        await self._wait_end()
        return self._details

    async def status_details(self) -> tuple[bytes, ...]:
        """The rich details of the status, serialized; waits for it. See `service.rich_status`."""
        await self._wait_end()
        return () if self._status is None else self._status.details

    async def wait_for_connection(self) -> None:
        """Wait until the RPC is on a connection. Raises what the RPC ended with, if it did."""
        while self.session is None and not self.finished:
            await self._connector.wait_for_change(self)
        if self.finished and self._outcome != OK:
            raise self.error()

    def debug_error_string(self) -> DebugString:
        """Target, peer, method, attempts, elapsed time, and more, for people.

        May be awaited, as in ``grpc.aio``.
        """
        return DebugString(
            explain(self._connector, self, self._method.path, self._outcome, self._cause)
        )

    async def _wait_end(self) -> None:
        while not self.finished:
            await self._wait_done()

    # -- a stream of requests --------------------------------------------------------------

    def send_requests(self, requests: RequestIterator[Any] | None) -> None:
        """Send what an iterator gives, and half-close behind it."""
        if requests is not None:
            self.iterates = True
            self.plain = False
            self.watched = True
            if not self.finished:
                self._request_task = self._connector.loop.create_task(send_all(self, requests))

    def on_requests_failed(self, error: BaseException) -> None:
        """The request iterator, or what sends its requests, has raised."""
        if not self.finished:
            # The caller's own error, not the RPC's: it is what the call raises.
            self._request_failed = True
            self._request_task = None
            self.fail(CANCELLED, f"the request iterator raised {error!r}", caught(error))

    async def send_request(self, request: Any) -> None:
        """Send one message of the request stream; returns when the next may be sent."""
        if self.finished:
            raise asyncio.InvalidStateError(ALREADY_FINISHED)
        await self._wait_sendable()
        if self.finished:
            raise self._ended_error()
        if self._writing_done:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        method = self._method
        body = method.serialize_request(request)
        limit = method.max_request_size
        if limit is not None and len(body) > limit:
            self.fail(RESOURCE_EXHAUSTED, method.too_large(len(body)), None)
            raise self.error()
        if self._resendable:
            self._remember(body)
        if not self.write_message(body):
            await self._wait_sendable()
            if self.finished and self._outcome != OK:
                raise self.error()

    async def close_requests(self) -> None:
        """Half-close: the request stream is complete."""
        await self._wait_sendable()
        if not self._writing_done:
            self._writing_done = True
            self.half_close()

    async def _wait_sendable(self) -> None:
        """Wait until the RPC is open, and what was written before has left."""
        while not self.finished and (
            self.send is None or self.send.pending or self._resending is not None
        ):
            self.plain = False
            self.watched = True
            if self._writers is None:
                self._writers = []
            try:
                await wait(self._writers, self._connector.loop.create_future())
            except asyncio.CancelledError:
                if not self.finished:
                    self.cancel()  # the task that writes was cancelled: so is the RPC
                raise

    def _remember(self, body: bytes) -> None:
        """Keep a request in case that the server refuses the call."""
        self._sent_size += len(body) + _REQUEST_OVERHEAD
        if self._sent_size > RESEND_LIMIT:
            self._resendable = False
            self._sent = None
        elif self._sent is None:
            self._sent = [body]
        else:
            self._sent.append(body)

    def _resend(self, requests: list[bytes]) -> bool:
        """Send again what was sent on another connection. False: go on at `on_sendable`."""
        while requests:
            if not self.write_message(requests.pop()):
                return False
        self._resending = None
        if self._writing_done:
            self.half_close()
        return True

    def on_sendable(self) -> None:
        if self._resending is not None and not (self.finished or self._resend(self._resending)):
            return
        if self._writers is not None:
            wake(self._writers)

    def _ended_error(self) -> BaseException:
        if self._outcome == OK:
            return asyncio.InvalidStateError(ALREADY_FINISHED)
        return self.error()


class ReplyCall(Call, Generic[Request, Reply]):
    """A call that ends with one reply. Awaiting it gives the reply, twice the same object."""

    def on_reply(self, body: bytes) -> None:
        try:
            reply = self._method.parse_reply(body)
        except Exception as error:  # what the message library raises is its own affair
            self._cause = caught(error)
            self.on_finished(*parse_failure(error, "Exception deserializing response!"), None)
            return
        self._outcome = OK
        self._reply = reply
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)
        if not self.plain:
            if self.watched:
                self._on_done()
            elif self.bucket is not None:
                self._connector.deadlines.remove(self)

    def on_finished(self, code: int, message: str, status: Status | None) -> None:
        super().on_finished(code, message, status)
        future = self._future
        if future is not None and not future.done():
            if self._locally_cancelled:
                future.cancel(LOCALLY_CANCELLED)
            else:
                future.set_result(None)

    def __await__(self) -> Generator[Any, Any, Reply]:
        if not self.finished:
            future = self._future
            if future is None:
                future = self._future = self._connector.loop.create_future()
            try:
                yield from future
            except asyncio.CancelledError:
                # The task that waits was cancelled: so is the RPC. Or it was, and this is how.
                self.cancel()
                raise
        if self._outcome != OK:
            # Not kept: a call that held what it has raised would be a cycle.
            raise self.error()
        reply: Reply = self._reply
        return reply


class UnaryUnaryCall(ReplyCall[Request, Reply]):
    """A call with one request and one reply."""


class StreamUnaryCall(ReplyCall[Request, Reply]):
    """A call with a stream of requests and one reply."""

    streams_requests = True

    async def write(self, request: Request) -> None:
        """Send one request; returns when the next may be sent.

        Raises:
            AioRpcError: the RPC has failed meanwhile.
            UsageError: the requests come from an iterator.
            asyncio.InvalidStateError: the requests are complete, or the RPC had ended before.
        """
        if self.iterates:
            raise UsageError("the requests of this call come from an iterator")
        await self.send_request(request)

    async def done_writing(self) -> None:
        """The requests are complete."""
        if self.iterates:
            raise UsageError("the requests of this call come from an iterator")
        await self.close_requests()
