"""Both sides of a service-call connection without any I/O: frames in, events and frames out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from protosocket_rpc.errors import ConnectionClosed, OutputQueueFull
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.rpc.message import CANCEL, END, NORMAL
from protosocket_rpc.service.client_session import ClientRpc, ClientSession
from protosocket_rpc.service.limits import UNLIMITED, RpcLimits
from protosocket_rpc.service.server_session import ServerRpc, ServerSession
from protosocket_rpc.service.session import ServiceSession
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import (
    MORE_FIELD,
    Frame,
    GoAway,
    Settings,
    Status,
    body_field,
    compression_field,
    credit_field,
    encode_frame,
    go_away_field,
    method_field,
    ping_field,
    pong_field,
    settings_field,
    status_field,
    timeout_field,
)
from protosocket_rpc.wire.metadata import metadata_field, trailers_field

__all__ = ["CANCEL", "END", "NORMAL"]

Pairs = list[tuple[str, bytes]]


@dataclass(frozen=True)
class F:
    """A frame, as a test writes it down and compares it."""

    id: int
    code: int = NORMAL
    method: str = ""
    body: bytes | None = None
    timeout_us: int = 0
    metadata: tuple[tuple[str, bytes], ...] = ()
    trailers: tuple[tuple[str, bytes], ...] = ()
    status: tuple[int, str] | None = None
    compression: int = 0
    credit: int = 0
    more: bool = False
    settings: bool = False
    ping: int | None = None
    pong: int | None = None
    go_away: tuple[int, str] | None = None

    @classmethod
    def of(cls, frame: Frame) -> F:
        status, go_away = frame.status, frame.go_away
        return cls(
            frame.id,
            frame.code,
            frame.method,
            frame.body,
            frame.timeout_us,
            tuple(frame.metadata or ()),
            tuple(frame.trailers or ()),
            None if status is None else (status.code, status.message),
            frame.compression,
            frame.credit,
            frame.more,
            frame.settings is not None,
            frame.ping,
            frame.pong,
            None if go_away is None else (go_away.last_id, go_away.reason),
        )

    def encode(self) -> bytes:
        fields = b""
        if self.method:
            fields += method_field(self.method)
        if self.body is not None:
            fields += body_field(self.body)
        if self.timeout_us:
            fields += timeout_field(self.timeout_us)
        fields += metadata_field(list(self.metadata)) + trailers_field(list(self.trailers))
        if self.status is not None:
            status = Status()
            status.code, status.message = self.status
            fields += status_field(status)
        if self.compression:
            fields += compression_field(self.compression)
        if self.credit:
            fields += credit_field(self.credit)
        if self.more:
            fields += MORE_FIELD
        if self.settings:
            fields += settings_field(peer_settings())
        if self.ping is not None:
            fields += ping_field(self.ping)
        if self.pong is not None:
            fields += pong_field(self.pong)
        if self.go_away is not None:
            go_away = GoAway()
            go_away.last_id, go_away.reason = self.go_away
            fields += go_away_field(go_away)
        return encode_frame(self.id, self.code, fields)


def peer_settings(**values: Any) -> Settings:
    """What a peer that understands everything says of itself."""
    settings = Settings()
    settings.max_frame_size = 8 * 1024 * 1024
    settings.max_message_size = 4 * 1024 * 1024
    settings.initial_credit = 256 * 1024
    settings.fragments = settings.credit = settings.ping = True
    settings.max_metadata_size = 16 * 1024
    for name, value in values.items():
        setattr(settings, name, value)
    return settings


SETTINGS = F(0, END, settings=True)


class FakeConnection(Connection[Any, Any]):
    """What a session needs of its connection. The test decides when the peer reads.

    A compiled session insists on the type; nothing of the real one is set up or used.
    """

    writable = True
    closing = False

    def __init__(self) -> None:
        self.data = bytearray()
        self.full = False
        self.reading = True
        self.writable_due = False
        self.in_flight = 0
        self.cause: Exception | None = None
        self.heard = True

    def unsent(self) -> list[bytes]:
        return []

    def write(self, data: bytes) -> None:
        if self.closing:
            raise ConnectionClosed("closed")
        if self.full:
            raise OutputQueueFull("full")
        self.data += data

    def write_parts(self, parts: list[Any]) -> None:
        self.write(b"".join(parts))

    def pace(self, in_flight: int) -> None:
        self.in_flight = in_flight

    def request_writable(self) -> None:
        self.writable_due = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True
        self.writable = False

    def abort(self, cause: Exception) -> None:
        self.cause = cause
        self.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


SessionT = TypeVar("SessionT", bound=ServiceSession)


class Side(Generic[SessionT]):
    """A session on a fake connection."""

    def __init__(self, session: SessionT, settings: Settings | None = None) -> None:
        self.session = session
        self.connection = FakeConnection()
        self._codec = FrameCodec(session.limits.max_frame_size)
        self._unread = b""
        session.on_open(self.connection)
        assert self.sent() == [SETTINGS]
        if settings is not None:
            self.receives_bytes(encode_frame(0, END, settings_field(settings)))

    def receives(self, *frames: F) -> None:
        """The peer sent these."""
        self.receives_bytes(b"".join(frame.encode() for frame in frames))

    def receives_bytes(self, data: bytes) -> None:
        messages: list[Frame] = []
        data = self._unread + data
        self._unread = data[self._codec.decode(data, messages) :]
        if messages:
            self.session.on_messages(messages)

    def sent_bytes(self) -> bytes:
        data = bytes(self.connection.data)
        self.connection.data.clear()
        return data

    def sent(self) -> list[F]:
        """What was sent since this was last asked."""
        messages: list[Frame] = []
        data = self.sent_bytes()
        assert FrameCodec(1 << 30).decode(data, messages) == len(data)
        return [F.of(message) for message in messages]

    def turn(self) -> None:
        """One turn of the loop: what asked for it may write."""
        if self.connection.writable_due and self.connection.writable:
            self.connection.writable_due = False
            self.session.on_writable()

    def turns(self) -> None:
        while self.connection.writable_due and self.connection.writable:
            self.turn()

    def stalls(self) -> None:
        """The peer stops reading."""
        self.connection.writable = False

    def resumes(self) -> None:
        """The peer reads again."""
        self.connection.writable = True
        self.session.on_writable()

    def loses(self, cause: Exception | None = None) -> None:
        """The connection is gone."""
        self.connection.close()
        self.session.on_close(cause)


class RecordedCall(ClientRpc):
    """A client's RPC that writes down what happens to it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.streams_requests = kind[0] == "S"
        self.streams_replies = kind[1] == "S"
        self.events: list[Any] = []

    def on_reply(self, body: bytes) -> None:
        self.events.append(("reply", body))

    def on_initial_metadata(self) -> None:
        self.events.append("metadata")

    def on_readable(self) -> None:
        self.events.append("readable")

    def on_sendable(self) -> None:
        self.events.append("sendable")

    def on_finished(self, code: int, message: str, status: Status | None) -> None:
        self.events.append(("finished", code, message))

    def happened(self) -> list[Any]:
        """The events since this was last asked."""
        events, self.events = self.events, []
        return events

    def outcomes(self) -> list[Any]:
        return [event for event in self.events if event[0] in ("reply", "finished")]

    def read_all(self) -> list[bytes]:
        assert self.receive is not None
        return list(iter(self.receive.take, None))


class RecordingClientSession(ClientSession):
    """Counts the times that it was told that its last call has ended."""

    drained = 0

    def on_drained(self) -> None:
        self.drained += 1


class Client(Side[RecordingClientSession]):
    """A client's side. Open RPCs on it."""

    def __init__(self, limits: RpcLimits | None = None, settings: Settings | None = None) -> None:
        super().__init__(RecordingClientSession(limits or RpcLimits()), settings)

    def opens(self, kind: str, body: bytes = b"request", fields: bytes = b"") -> RecordedCall:
        call = RecordedCall(kind)
        self.session.open(
            call,
            method_field(f"/test/{kind}"),
            None if call.streams_requests else body,
            fields,
        )
        return call


class RecordedHandler(ServerRpc):
    """A server's RPC that writes down what happens to it; the test is its handler."""

    def __init__(self, session: ServerSession, opening: Frame) -> None:
        self.session = session
        self.opening = opening
        self.id = opening.id
        kind = opening.method[-2:]
        self.streams_requests = kind[0] == "S"
        self.streams_replies = kind[1] == "S"
        self.events: list[Any] = []

    def on_request(self, body: bytes) -> None:
        self.events.append(("request", body))

    def on_readable(self) -> None:
        self.events.append("readable")

    def on_sendable(self) -> None:
        self.events.append("sendable")
        super().on_sendable()

    def on_stopped(self, code: int, message: str) -> None:
        self.events.append(("stopped", code, message))

    def happened(self) -> list[Any]:
        events, self.events = self.events, []
        return events

    def read_all(self) -> list[bytes]:
        assert self.receive is not None
        return list(iter(self.receive.take, None))


class RecordingSession(ServerSession):
    def __init__(self, limits: RpcLimits) -> None:
        super().__init__(limits)
        self.accepted: list[RecordedHandler] = []
        self.drained = 0

    def accept(self, frame: Frame) -> None:
        rpc = RecordedHandler(self, frame)
        self.accepted.append(rpc)
        rpc.open()

    def on_drained(self) -> None:
        self.drained += 1
        self.sender().close()


class Server(Side[RecordingSession]):
    """A server's side."""

    def __init__(self, limits: RpcLimits | None = None, settings: Settings | None = None) -> None:
        super().__init__(RecordingSession(limits or RpcLimits()), settings)

    def accepts(self, kind: str, id: int = 1, **fields: Any) -> RecordedHandler:
        """The client opens an RPC."""
        if kind[0] == "U":
            fields.setdefault("body", b"request")
        if kind[1] == "S" and self.session.peer is not None:
            fields.setdefault("credit", UNLIMITED)
        self.receives(F(id, method=f"/test/{kind}", **fields))
        rpc = self.session.accepted[-1]
        assert rpc.id == id
        return rpc
