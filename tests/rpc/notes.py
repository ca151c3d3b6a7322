"""A message type of the tests' own, written by hand: a dataclass, MessagePack on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from protosocket_rpc import raw, rpc
from protosocket_rpc.raw.codecs import MessagePackCodec

NORMAL, CANCEL, END = 0, 1, 2


@dataclass(frozen=True)
class Note:
    """Frozen, so that setting the id has to make a new one."""

    text: str = ""
    id: int = 0
    code: int = NORMAL


class NoteType:
    """The MessageType of notes."""

    def message_id(self, message: Note) -> int:
        return message.id

    def set_message_id(self, message: Note, id: int) -> Note:
        return replace(message, id=id)

    def control_code(self, message: Note) -> int:
        return message.code

    def cancelled(self, id: int) -> Note:
        return Note(id=id, code=CANCEL)

    def ended(self, id: int) -> Note:
        return Note(id=id, code=END)


NOTES = NoteType()


class NoteCodec:
    """A note is the MessagePack document ``[id, code, text]``."""

    def __init__(self) -> None:
        self._documents = MessagePackCodec(max_message_size=16 * 1024 * 1024)

    def decode(self, data: bytes, messages: list[Note]) -> int:
        documents: list[list[Any]] = []
        try:
            return self._documents.decode(data, documents)
        finally:
            messages += [Note(text, id, code) for id, code, text in documents]

    def needed(self) -> int:
        return self._documents.needed()

    def encode(self, message: Note) -> bytes:
        return self._documents.encode([message.id, message.code, message.text])


class Notes(rpc.ConnectionService[Note, Note]):
    """Answers as a function says; remembers how its connection ended."""

    def __init__(self, new_rpc: Callable[[Note], Any]) -> None:
        self.new_rpc = new_rpc  # type: ignore[method-assign]  # the function stands in for it
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def on_close(self, cause: Exception | None) -> None:
        self.closed.set_result(cause)


class Server:
    """A server of notes, and the services of its connections."""

    def __init__(self) -> None:
        self.services: list[Notes] = []
        self.rpc: rpc.RpcServer[Note, Note]

    @property
    def sessions(self) -> list[Any]:
        return list(self.rpc._handlers.sessions)


@asynccontextmanager
async def serving(
    new_rpc: Callable[[Note], Any], target: str = "127.0.0.1:0", **options: Any
) -> AsyncIterator[Server]:
    """Serve notes; `new_rpc` answers them on every connection."""
    server = Server()

    def make(connection: object) -> Notes:
        server.services.append(Notes(new_rpc))
        return server.services[-1]

    server.rpc = await rpc.serve(target, NoteCodec, make, request=NOTES, response=NOTES, **options)
    async with server.rpc:
        yield server


async def connect(target: str, **options: Any) -> rpc.RpcClient[Note, Note]:
    return await rpc.connect(target, NoteCodec(), request=NOTES, response=NOTES, **options)


class Peer(raw.Reactor[Note, Note]):
    """The other side with no library between: says what the test says, keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Note] = []
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def on_open(self, connection: raw.Connection[Note, Note]) -> None:
        self.connection = connection

    def on_message(self, message: Note) -> None:
        self.heard.append(message)

    def on_close(self, cause: Exception | None) -> None:
        self.closed.set_result(cause)

    def say(self, text: str = "", *, id: int, code: int = NORMAL) -> None:
        self.connection.send(Note(text, id, code))


@asynccontextmanager
async def peer_of(server: Server) -> AsyncIterator[Peer]:
    """A client with no library between."""
    peer = Peer()
    await raw.connect(server.rpc.target, NoteCodec(), peer)
    try:
        yield peer
    finally:
        peer.connection.close()
        await peer.closed


@asynccontextmanager
async def client_and_peer(**options: Any) -> AsyncIterator[tuple[rpc.RpcClient[Note, Note], Peer]]:
    """A client, and the server's end of its connection with no library between."""
    peer = Peer()
    async with (
        await raw.serve("127.0.0.1:0", NoteCodec, lambda: peer) as server,
        await connect(server.target, **options) as client,
    ):
        yield client, peer
