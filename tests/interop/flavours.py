"""The exercise in three flavours: a service, protobuf messages of its own, MessagePack.

Each has the same calls on the same side of the same program, so that tests are written once.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from interop.exercise import Exercise
from interop.generated import exercise_protosocket as service_code
from interop.generated.exercise_pb2 import (
    Blob,
    Failure,
    Nothing,
    Number,
    Overheard,
    Range,
    Request,
    Response,
    Seat,
)

import protosocket_rpc as ps
from protosocket_rpc import rpc
from protosocket_rpc.raw.codecs import MessagePackCodec, ProtobufCodec

LARGEST = 4 * 1024 * 1024
CODES = {code.value[0]: code for code in ps.StatusCode}


class Calls(Protocol):
    """The exercise over a connection that is made when it is needed."""

    async def echo(self, data: bytes) -> bytes: ...
    async def gather(self, number: int, of: int) -> int: ...
    def count(self, count: int, then_hang: bool = False) -> AsyncIterator[int]: ...
    async def hang(self) -> None: ...
    async def ended(self, count: int) -> int: ...
    async def refuse(self) -> None: ...


@dataclass(frozen=True)
class Flavour:
    """One of the three.

    Attributes:
        program: of rust/src/bin.
        serve: ``serve(exercise, target, ssl=...)``, a Python server; gives its target.
        connect: ``connect(target, ssl=..., largest=...)``, a Python client; gives its calls.
        refused, lost: whether an exception says that the server refused, and that the connection
            is gone.
        overhead: the bytes of the largest message that are not the data echoed.
    """

    program: str
    serve: Callable[..., AbstractAsyncContextManager[str]]
    connect: Callable[..., AbstractAsyncContextManager[Calls]]
    refused: Callable[[Exception], bool]
    lost: Callable[[Exception], bool]
    overhead: int

    def __str__(self) -> str:
        return self.program


# -- a service -----------------------------------------------------------------------------


class Servicer(service_code.ExerciseServicer):
    def __init__(self, exercise: Exercise) -> None:
        self._exercise = exercise

    async def Echo(self, request: Blob, context: Any) -> Blob:
        return request

    async def Gather(self, request: Seat, context: Any) -> Seat:
        await self._exercise.gather(request.of)
        return request

    async def Count(self, request: Range, context: Any) -> AsyncIterator[Number]:
        async with aclosing(self._exercise.count(request.count, request.then_hang)) as numbers:
            async for number in numbers:
                yield Number(value=number)

    async def Hang(self, request: Nothing, context: Any) -> Nothing:
        await self._exercise.hang()
        return request

    async def Ended(self, request: Number, context: Any) -> Number:
        await self._exercise.ended(request.value)
        return request

    async def Fail(self, request: Failure, context: Any) -> Nothing:
        await context.abort(CODES[request.code], request.message)
        raise AssertionError("abort raises")

    async def CountAndFail(self, request: Failure, context: Any) -> AsyncIterator[Number]:
        yield Number(value=0)
        await context.abort(CODES[request.code], request.message)

    async def Overhear(self, request: Nothing, context: Any) -> Overheard:
        context.set_trailing_metadata((("left", "unread"),))
        return Overheard(
            metadata=[f"{key}={value}" for key, value in context.invocation_metadata()],
            has_deadline=context.time_remaining() is not None,
        )


@asynccontextmanager
async def serve_service(
    exercise: Exercise,
    target: str = "127.0.0.1:0",
    ssl: ssl.SSLContext | None = None,
    any_alpn: bool = False,
) -> AsyncIterator[str]:
    server = ps.server()
    service_code.add_ExerciseServicer_to_server(Servicer(exercise), server)
    if ssl:
        credentials = ps.ssl_context_server_credentials(ssl, any_alpn=any_alpn)
        port = server.add_secure_port(target, credentials)
    else:
        port = server.add_insecure_port(target)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop()


class ServiceCalls:
    def __init__(self, channel: ps.Channel) -> None:
        self.channel = channel
        self.stub = service_code.ExerciseStub(channel)

    async def echo(self, data: bytes) -> bytes:
        return (await self.stub.Echo(Blob(data=data))).data

    async def gather(self, number: int, of: int) -> int:
        return (await self.stub.Gather(Seat(number=number, of=of))).number

    async def count(self, count: int, then_hang: bool = False) -> AsyncIterator[int]:
        call = self.stub.Count(Range(count=count, then_hang=then_hang))
        try:
            async for number in call:
                yield number.value
        finally:
            call.cancel()

    async def hang(self) -> None:
        await self.stub.Hang(Nothing())

    async def ended(self, count: int) -> int:
        return (await self.stub.Ended(Number(value=count))).value

    async def refuse(self) -> None:
        method = ps.UnaryUnaryMethod("/interop.v1.Exercise/Nowhere", ps.BYTES, ps.BYTES)
        await self.channel.method(method)(b"")


@asynccontextmanager
async def connect_service(
    target: str, ssl: ssl.SSLContext | None = None, largest: int = LARGEST
) -> AsyncIterator[ServiceCalls]:
    limits = ps.RpcLimits(max_receive_message_size=largest)
    if ssl:
        channel = ps.secure_channel(target, ssl, limits=limits)
    else:
        channel = ps.insecure_channel(target, limits=limits)
    async with channel:
        yield ServiceCalls(channel)


def status(error: Exception) -> ps.StatusCode | None:
    return error.code() if isinstance(error, ps.AioRpcError) else None


SERVICE = Flavour(
    "service",
    serve_service,
    connect_service,
    refused=lambda error: status(error) is ps.StatusCode.UNIMPLEMENTED,
    lost=lambda error: status(error) is ps.StatusCode.UNAVAILABLE,
    overhead=5,
)


# -- messages of one's own -------------------------------------------------------------------


class OwnService(rpc.ConnectionService[Request, Response]):
    def __init__(self, exercise: Exercise) -> None:
        self._exercise = exercise

    def new_rpc(
        self, request: Request
    ) -> Awaitable[Response] | AsyncIterator[Response] | rpc.Rejection:
        body = request.WhichOneof("body")
        if body in (None, "refuse"):
            return rpc.REJECTED
        if body == "count":
            return self._count(request.count)
        return self._unary(body, request)

    async def _unary(self, body: str, request: Request) -> Response:
        if body == "echo":
            return Response(echo=request.echo)
        if body == "gather":
            await self._exercise.gather(request.gather.of)
            return Response(gather=request.gather)
        if body == "hang":
            await self._exercise.hang()
        await self._exercise.ended(request.ended.value)
        return Response(number=request.ended)

    async def _count(self, request: Range) -> AsyncIterator[Response]:
        async with aclosing(self._exercise.count(request.count, request.then_hang)) as numbers:
            async for number in numbers:
                yield Response(number=Number(value=number))


def _serve_with(codec: Callable[[], Any], service: Callable[[Exercise], Any], types: Any) -> Any:
    @asynccontextmanager
    async def serve(
        exercise: Exercise, target: str = "127.0.0.1:0", ssl: ssl.SSLContext | None = None
    ) -> AsyncIterator[str]:
        async with await rpc.serve(
            target, codec, lambda connection: service(exercise), ssl=ssl, **types
        ) as server:
            yield server.target

    return serve


def _connect_with(codec: Callable[..., Any], calls: Callable[[Any], Any], types: Any) -> Any:
    @asynccontextmanager
    async def connect(
        target: str, ssl: ssl.SSLContext | None = None, largest: int = LARGEST
    ) -> AsyncIterator[Calls]:
        async with rpc.ConnectionPool(
            lambda: rpc.connect(target, codec(max_message_size=largest), ssl=ssl, **types), size=1
        ) as pool:
            yield calls(pool)

    return connect


class OwnCalls:
    def __init__(self, pool: rpc.ConnectionPool[Request, Response]) -> None:
        self.pool = pool

    async def _unary(self, request: Request) -> Response:
        return await (await self.pool.get()).unary(request)

    async def echo(self, data: bytes) -> bytes:
        return (await self._unary(Request(echo=Blob(data=data)))).echo.data

    async def gather(self, number: int, of: int) -> int:
        return (await self._unary(Request(gather=Seat(number=number, of=of)))).gather.number

    async def count(self, count: int, then_hang: bool = False) -> AsyncIterator[int]:
        request = Request(count=Range(count=count, then_hang=then_hang))
        async with aclosing((await self.pool.get()).stream(request)) as responses:
            async for response in responses:
                yield response.number.value

    async def hang(self) -> None:
        await self._unary(Request(hang=Nothing()))

    async def ended(self, count: int) -> int:
        return (await self._unary(Request(ended=Number(value=count)))).number.value

    async def refuse(self) -> None:
        await self._unary(Request(refuse=Nothing()))


OWN_TYPES = {"request": rpc.ProtobufMessage(Request), "response": rpc.ProtobufMessage(Response)}
OWN = Flavour(
    "own",
    _serve_with(lambda: ProtobufCodec(Request), OwnService, OWN_TYPES),
    _connect_with(
        lambda max_message_size: ProtobufCodec(Response, max_message_size=max_message_size),
        OwnCalls,
        OWN_TYPES,
    ),
    refused=lambda error: isinstance(error, ps.RemoteCancelled),
    lost=lambda error: isinstance(error, ps.ConnectionClosed),
    overhead=16,
)


# -- MessagePack -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Note:
    """Serde's struct of rust/src/notes.rs: the list of its fields."""

    id: int = 0
    code: int = 0
    verb: str = ""
    number: int = 0
    text: str = ""


class NoteType:
    """The MessageType of notes."""

    def message_id(self, message: Note) -> int:
        return message.id

    def set_message_id(self, message: Note, id: int) -> Note:
        return replace(message, id=id)

    def control_code(self, message: Note) -> int:
        return message.code

    def cancelled(self, id: int) -> Note:
        return Note(id=id, code=rpc.ControlCode.CANCEL)

    def ended(self, id: int) -> Note:
        return Note(id=id, code=rpc.ControlCode.END)


class NoteCodec:
    def __init__(self, max_message_size: int = LARGEST) -> None:
        self._documents = MessagePackCodec(max_message_size=max_message_size)

    def decode(self, data: bytes, messages: list[Note]) -> int:
        documents: list[list[Any]] = []
        try:
            return self._documents.decode(data, documents)
        finally:
            messages += [Note(*document) for document in documents]

    def needed(self) -> int:
        return self._documents.needed()

    def encode(self, message: Note) -> bytes:
        fields = (message.id, message.code, message.verb, message.number, message.text)
        return self._documents.encode(fields)


class NoteService(rpc.ConnectionService[Note, Note]):
    def __init__(self, exercise: Exercise) -> None:
        self._exercise = exercise

    def new_rpc(self, request: Note) -> Awaitable[Note] | AsyncIterator[Note] | rpc.Rejection:
        if request.verb == "refuse":
            return rpc.REJECTED
        return self._count(request) if request.verb == "count" else self._unary(request)

    async def _unary(self, note: Note) -> Note:
        if note.verb == "gather":
            await self._exercise.gather(int(note.text))
        if note.verb == "hang":
            await self._exercise.hang()
        if note.verb == "ended":
            await self._exercise.ended(note.number)
        return note

    async def _count(self, note: Note) -> AsyncIterator[Note]:
        async with aclosing(self._exercise.count(note.number, note.text == "then hang")) as numbers:
            async for number in numbers:
                yield Note(number=number)


class NoteCalls:
    def __init__(self, pool: rpc.ConnectionPool[Note, Note]) -> None:
        self.pool = pool

    async def _unary(self, verb: str, number: int = 0, text: str = "") -> Note:
        return await (await self.pool.get()).unary(Note(verb=verb, number=number, text=text))

    async def echo(self, data: bytes) -> bytes:
        return (await self._unary("echo", text=data.decode("ascii"))).text.encode()

    async def gather(self, number: int, of: int) -> int:
        return (await self._unary("gather", number, str(of))).number

    async def count(self, count: int, then_hang: bool = False) -> AsyncIterator[int]:
        note = Note(verb="count", number=count, text="then hang" if then_hang else "")
        async with aclosing((await self.pool.get()).stream(note)) as notes:
            async for answer in notes:
                yield answer.number

    async def hang(self) -> None:
        await self._unary("hang")

    async def ended(self, count: int) -> int:
        return (await self._unary("ended", count)).number

    async def refuse(self) -> None:
        await self._unary("refuse")


NOTE_TYPES = {"request": NoteType(), "response": NoteType()}
MESSAGEPACK = Flavour(
    "messagepack",
    _serve_with(NoteCodec, NoteService, NOTE_TYPES),
    _connect_with(NoteCodec, NoteCalls, NOTE_TYPES),
    refused=lambda error: isinstance(error, ps.RemoteCancelled),
    lost=lambda error: isinstance(error, ps.ConnectionClosed),
    overhead=32,
)

FLAVOURS = (SERVICE, OWN, MESSAGEPACK)
