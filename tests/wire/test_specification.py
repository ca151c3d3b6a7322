"""docs/wire.md is true: its bytes, its tables, and its conversations with the real other side."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from support import ROOT
from wire.frames import INCLUDES, SCHEMA, delimited, encode
from wire.transcript import Sent, parse, show

import protosocket_rpc
from protosocket_rpc import (
    AioRpcError,
    Channel,
    RpcLimits,
    ServiceDescriptor,
    StatusCode,
    StreamStreamMethod,
    StreamUnaryMethod,
    UnaryStreamMethod,
    UnaryUnaryMethod,
    protobuf,
)
from protosocket_rpc.rpc.early_cancels import MAX_EARLY_CANCELS, MAX_GAPS
from protosocket_rpc.service.limits import CREDIT_BEFORE_SETTINGS, MAX_METHOD_LENGTH
from protosocket_rpc.service.session import FRAGMENT, WHOLE
from protosocket_rpc.wire.codec import FrameCodec
from protosocket_rpc.wire.frame import MOST_FIELDS, Frame, encode_frame, ping_field, pong_field

TEXT = (ROOT / "docs" / "wire.md").read_text()
SECTIONS = {
    section.partition("\n")[0]: parse(section.partition("```frames\n")[2].partition("```")[0])
    for section in TEXT.split("\n### ")
    if "```frames\n" in section
}
EVERY = [
    pytest.param(sent, id=f"{title} {number}")
    for title, transcript in SECTIONS.items()
    for number, sent in enumerate(transcript, 1)
]


# -- bytes and their meaning ---------------------------------------------------------------


def test_every_transcript_was_found() -> None:
    assert len(SECTIONS) == TEXT.count("```frames") == 16


def test_protoc_decodes_the_hex_as_it_says(tmp_path: Path) -> None:
    frames = [sent for transcript in SECTIONS.values() for sent in transcript]
    (tmp_path / "all.proto").write_text(
        f'syntax = "proto3"; import "{SCHEMA}";'
        "message All { repeated protosocket.rpc.v1.Frame frame = 1; }"
    )
    decoded = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "--decode=All"]
        + [f"-I{include}" for include in (tmp_path, *INCLUDES)]
        + ["all.proto"],
        # A frame with its length is what a field of this type holds.
        input=b"".join(b"\x0a" + sent.data for sent in frames),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.decode()
    says = [" ".join(part.split()) for part in re.split(r"(?m)^frame ", decoded)[1:]]
    assert says == [f"{{ {' '.join(sent.says.split())} }}" for sent in frames]


@pytest.mark.parametrize("sent", EVERY)
def test_the_layout_follows_from_the_bytes(frame_pb2: ModuleType, sent: Sent) -> None:
    assert sent.text == show(frame_pb2, sent.side, sent.data)


@pytest.mark.parametrize("sent", EVERY)
def test_the_code_reads_and_writes_the_bytes(sent: Sent) -> None:
    frames: list[Frame] = []
    assert FrameCodec(1 << 20).decode(sent.data, frames) == len(sent.data)
    (frame,) = frames
    assert encode(frame) == sent.data


# -- tables --------------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = TEXT[TEXT.index(f"\n{heading}\n") :]
    found = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert found is not None
    lines = found[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("## Frame", "Frame"),
        ("### Settings", "Settings"),
        ("### Going away", "GoAway"),
        ("## Metadata", "Metadatum"),
    ],
)
def test_fields_are_those_of_the_schema(frame_pb2: ModuleType, heading: str, message: str) -> None:
    descriptor = getattr(frame_pb2, message).DESCRIPTOR
    said = [re.match(r"(\d+) `(\w+)`", row[0]) for row in rows(heading)]
    assert [found and found.groups() for found in said] == [
        (str(field.number), field.name) for field in descriptor.fields
    ]


def test_status_codes() -> None:
    said = " ".join(cell for row in rows("## Status") for cell in row)
    assert dict(map(str.split, re.findall(r"\d+ [A-Z_]+", said))) == {
        str(code.number): code.name for code in StatusCode
    }


def test_limits_have_their_defaults() -> None:
    limits = RpcLimits()
    constants = {
        "CREDIT_BEFORE_SETTINGS": CREDIT_BEFORE_SETTINGS,
        "FRAGMENT": FRAGMENT,
        "MOST_FIELDS": MOST_FIELDS,
        "MAX_EARLY_CANCELS": MAX_EARLY_CANCELS,
        "MAX_GAPS": MAX_GAPS,
        "MAX_METHOD_LENGTH": MAX_METHOD_LENGTH,
        "WHOLE": WHOLE,
    }
    for name, value, _ in rows("## Limits"):
        key = name.strip("`")
        assert int(value) == constants.get(key, getattr(limits, key, None)), key


# -- conversations -------------------------------------------------------------------------

_TEXT = protobuf(StringValue)
SAY = UnaryUnaryMethod("/echo.Echo/Say", _TEXT, _TEXT)
SHOUT = UnaryUnaryMethod("/echo.Echo/Shout", _TEXT, _TEXT)
SPELL = UnaryStreamMethod("/echo.Echo/Spell", _TEXT, _TEXT)
JOIN = StreamUnaryMethod("/echo.Echo/Join", _TEXT, _TEXT)
CHAT = StreamStreamMethod("/echo.Echo/Chat", _TEXT, _TEXT)
ECHO = ServiceDescriptor("echo.Echo", (SAY, SPELL, JOIN, CHAT))


class Echo:
    """The service of the examples."""

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        if not request.value:
            await context.abort(
                StatusCode.INVALID_ARGUMENT, "nothing to say", [("hint", "say more")]
            )
        if "user" in context.invocation_metadata():
            await context.send_initial_metadata([("server", "s1")])
            context.set_trailing_metadata([("took-us", "12")])
        return request

    async def Spell(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        for letter in request.value:
            if not letter.isalpha():
                await context.abort(StatusCode.OUT_OF_RANGE, f"{letter} is no letter")
            yield StringValue(value=letter)
        context.set_trailing_metadata([("letters", str(len(request.value)))])

    async def Join(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        return StringValue(value="".join([request.value async for request in requests]))

    async def Chat(
        self, requests: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield request


def comparable(frame_pb2: ModuleType, data: bytes) -> Any:
    """A frame, without what differs from run to run, and from machine to machine."""
    frame = frame_pb2.Frame.FromString(data[1:])
    if frame.timeout_us:
        assert 0 < frame.timeout_us <= 1_000_000
        frame.timeout_us = 1_000_000
    if frame.HasField("settings"):
        frame.settings.ClearField("compression")  # zstd, where its library is installed
    assert delimited(frame) == data or frame.timeout_us or frame.HasField("settings")
    return frame


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(1)
    assert length[0] < 0x80
    return length + await reader.readexactly(length[0])


SETTINGS = {sent.side: sent.data for sent in SECTIONS["Settings of both sides"]}
PING, PONG = encode_frame(0, 2, ping_field(9)), encode_frame(0, 2, pong_field(9))


@pytest.mark.parametrize("title", [title for title in SECTIONS if title != "What is no frame"])
async def test_the_server_says_its_part(frame_pb2: ModuleType, title: str) -> None:
    server = protosocket_rpc.server()
    server.add(Echo(), ECHO)
    port = server.add_insecure_port("127.0.0.1:0")
    stopping: asyncio.Task[None] | None = None
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        settings = comparable(frame_pb2, await read_frame(reader))
        assert settings == comparable(frame_pb2, SETTINGS["S"])
        writer.write(SETTINGS["C"])
        transcript = [] if title == "Settings of both sides" else SECTIONS[title]
        for number, sent in enumerate(transcript, 1):
            if sent.side == "C":
                writer.write(sent.data)
                continue
            if b"\x7a" in sent.data and stopping is None:  # going away
                stopping = asyncio.ensure_future(server.stop(grace=5))
            assert await read_frame(reader) == sent.data
            if stopping is None and "S" not in [sent.side for sent in transcript[number:][:1]]:
                # And no more than that.
                writer.write(PING)
                assert await read_frame(reader) == PONG
        if stopping is not None:
            assert await reader.read() == b""  # the last RPC has ended
            await stopping
        writer.close()
        await writer.wait_closed()


async def test_the_server_closes_after_what_is_no_frame() -> None:
    (farewell,) = SECTIONS["What is no frame"]
    broken = re.search(r"After `([0-9a-f ]+)`", TEXT)
    assert broken is not None
    server = protosocket_rpc.server()
    port = server.add_insecure_port("127.0.0.1:0")
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await read_frame(reader)
        writer.write(bytes.fromhex(broken[1]))
        assert await reader.read() == farewell.data
        writer.close()
        await writer.wait_closed()


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def unary(channel: Channel) -> None:
    assert await channel.method(SAY)(text("hi")) == text("hi")


async def metadata(channel: Channel) -> None:
    call = channel.method(SAY)(
        text("hi"), timeout=1, metadata=[("user", "ada"), ("trace-bin", b"\x00\xff")]
    )
    assert await call == text("hi")
    assert list(await call.initial_metadata()) == [("server", "s1")]
    assert list(await call.trailing_metadata()) == [("took-us", "12")]


async def an_error(channel: Channel) -> None:
    with pytest.raises(AioRpcError, match="nothing to say") as raised:
        await channel.method(SAY)(text(""))
    assert raised.value.code() is StatusCode.INVALID_ARGUMENT
    assert list(raised.value.trailing_metadata()) == [("hint", "say more")]


async def replies(channel: Channel) -> None:
    call = channel.method(SPELL)(text("hi"))
    assert [reply async for reply in call] == [text("h"), text("i")]
    assert list(await call.trailing_metadata()) == [("letters", "2")]


async def requests(channel: Channel) -> None:
    assert await channel.method(JOIN)([text("h"), text("i")]) == text("hi")


async def both(channel: Channel) -> None:
    call = channel.method(CHAT)()
    for letter in "hi":
        await call.write(text(letter))
        assert await call.read() == text(letter)
    await call.done_writing()
    assert await call.read() is protosocket_rpc.EOF


async def an_error_on_a_stream(channel: Channel) -> None:
    call = channel.method(SPELL)(text("h?"))
    assert await call.read() == text("h")
    with pytest.raises(AioRpcError, match="\\? is no letter"):
        await call.read()
    assert await call.code() is StatusCode.OUT_OF_RANGE


async def cancelling(channel: Channel) -> None:
    call = channel.method(CHAT)()
    await call.write(text("h"))
    assert await call.read() == text("h")
    assert call.cancel()
    assert await call.code() is StatusCode.CANCELLED


async def credit(channel: Channel) -> None:
    call = channel.method(SPELL)(text("abc"))
    assert [reply.value async for reply in call] == ["a", "b", "c"]


async def not_there(channel: Channel) -> None:
    with pytest.raises(AioRpcError, match="Method not found!") as raised:
        await channel.method(SHOUT)(text("hi"))
    assert raised.value.code() is StatusCode.UNIMPLEMENTED


CLIENTS: dict[str, Callable[[Channel], Coroutine[Any, Any, None]]] = {
    "A unary call": unary,
    "With a deadline and metadata": metadata,
    "An error": an_error,
    "A stream of replies": replies,
    "A stream of requests": requests,
    "Streams both ways": both,
    "An error on a stream": an_error_on_a_stream,
    "Cancelling": cancelling,
    "Credit": credit,
    "A method that is not there": not_there,
}


@pytest.mark.parametrize("title", CLIENTS)
async def test_the_client_says_its_part(frame_pb2: ModuleType, title: str) -> None:
    connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def say_the_servers_part() -> None:
        reader, writer = await connected.get()
        writer.write(SETTINGS["S"])
        expected = comparable(frame_pb2, SETTINGS["C"])
        if title == "Credit":
            expected.settings.initial_credit = 4
        assert comparable(frame_pb2, await read_frame(reader)) == expected
        await channel.channel_ready()
        drive = asyncio.ensure_future(CLIENTS[title](channel))
        for sent in SECTIONS[title]:
            if sent.side == "S":
                writer.write(sent.data)
            else:
                theirs = await read_frame(reader)
                assert comparable(frame_pb2, theirs) == comparable(frame_pb2, sent.data)
        await drive
        # And no more than that.
        writer.write(PING)
        assert await read_frame(reader) == PONG
        await channel.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.put_nowait((reader, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    limits = RpcLimits(stream_window=4) if title == "Credit" else None
    async with server, protosocket_rpc.insecure_channel(target, limits=limits) as channel:
        channel.get_state(try_to_connect=True)
        await say_the_servers_part()
