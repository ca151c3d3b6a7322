"""Bytes that no peer in its right mind sends: over real sockets, with a clear outcome each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rpc.notes import CANCEL, Note, NoteCodec, client_and_peer, connect, serving
from support import wait_until

from protosocket_rpc.errors import ConnectionClosed, DecodeError, FrameTooLarge, ProtocolError
from protosocket_rpc.raw import Limits
from protosocket_rpc.raw.codecs import MessagePackCodec

LIMITS = Limits(max_buffer=64 * 1024)
GARBAGE = b"\xce\0\0\0\1\xc1"
NO_LENGTH = b"GET / HTTP/1.1"
TOO_LARGE = b"\xce\0\1\0\0"  # a length of 65536, and its own five bytes
ABSURD = b"\xce\xff\xff\xff\xff"

encode = NoteCodec().encode


async def echo(note: Note) -> Note:
    return note


@asynccontextmanager
async def stranger(target: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*target.split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (GARBAGE, DecodeError),
        (NO_LENGTH, DecodeError),
        (TOO_LARGE, FrameTooLarge),
        (ABSURD, FrameTooLarge),
    ],
)
async def test_bad_bytes_end_their_connection_alone(
    data: bytes, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    forever = asyncio.Event()
    stopped = asyncio.Event()

    async def answer(note: Note) -> Note:
        if note.text == "slow":
            try:
                await forever.wait()
            finally:
                stopped.set()
        return note

    async with (
        serving(answer, limits=LIMITS) as server,
        await connect(server.rpc.target) as bystander,
        stranger(server.rpc.target) as (reader, writer),
    ):
        slow = bystander.unary(Note("slow"))
        writer.write(encode(Note("slow", 1)) + encode(Note("fast", 2)) + data)
        # What came before is answered; then comes the end, and its handlers are told.
        assert await reader.read() == encode(Note("fast", 2))
        await stopped.wait()
        assert type(await server.services[1].closed) is error
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert "the client broke the protocol" in record.getMessage()
        assert "127.0.0.1" in record.getMessage()
        assert (await bystander.unary(Note("fast"))).text == "fast"
        forever.set()
        assert (await slow).text == "slow"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (GARBAGE, DecodeError),
        (NO_LENGTH, DecodeError),
        (TOO_LARGE, FrameTooLarge),
        (ABSURD, FrameTooLarge),
    ],
)
async def test_bad_bytes_from_a_server_are_a_protocol_error(
    data: bytes, error: type[Exception]
) -> None:
    async with client_and_peer(limits=LIMITS) as (client, peer):
        answered, unary, stream = client.unary(Note()), client.unary(Note()), client.stream(Note())
        await wait_until(lambda: len(peer.heard) == 3)
        peer.connection.write(encode(Note("answer", 1)) + encode(Note("item", 3)) + data)
        assert (await answered).text == "answer"
        with pytest.raises(ProtocolError) as caught:
            await unary
        assert type(caught.value.__cause__) is error
        assert (await stream.__anext__()).text == "item"
        with pytest.raises(ProtocolError) as caught:
            await stream.__anext__()
        assert type(caught.value.__cause__) is error
        assert not client.alive


async def test_one_byte_at_a_time() -> None:
    async with serving(echo) as server, stranger(server.rpc.target) as (reader, writer):
        for byte in encode(Note("hello", 1)):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(len(encode(Note("hello", 1)))) == encode(Note("hello", 1))


async def test_a_client_that_says_nothing_costs_nothing_but_its_connection() -> None:
    async with (
        serving(echo) as server,
        stranger(server.rpc.target),
        await connect(server.rpc.target) as client,
    ):
        assert (await client.unary(Note("hello"))).text == "hello"
        assert len(server.sessions) == 2


async def test_a_client_that_vanishes_in_the_middle_of_a_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(echo) as server:
        async with stranger(server.rpc.target) as (_, writer):
            writer.write(encode(Note("hello", 1))[:-1])
        await wait_until(lambda: server.services)
        cause = await server.services[0].closed
        assert type(cause) is ConnectionClosed
    (record,) = caplog.records
    assert "in the middle of a message" in record.getMessage()


async def test_a_message_type_that_fails_ends_its_connection_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The user's own code runs for every message: its defects are logged as such."""
    async with serving(echo) as server, stranger(server.rpc.target) as (reader, writer):
        writer.write(MessagePackCodec().encode([1, "a code that is no number", "text"]))
        assert await reader.read() == b""
        assert isinstance(await server.services[0].closed, TypeError)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


async def test_cancels_and_ends_out_of_the_blue_concern_no_other_rpc() -> None:
    async with serving(echo) as server, stranger(server.rpc.target) as (reader, writer):
        for code in (CANCEL, 2, 3, 250):
            writer.write(encode(Note("", 2, code)))
        writer.write(encode(Note("hello", 2)) + encode(Note("hello", 1)))
        assert await reader.readexactly(len(encode(Note("", 2, CANCEL)))) == encode(
            Note("", 2, CANCEL)
        )
        assert await reader.readexactly(len(encode(Note("hello", 1)))) == encode(Note("hello", 1))
