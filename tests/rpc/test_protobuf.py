"""Protobuf messages of one's own: naming two fields is enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from support import wait_until

from protosocket_rpc import rpc
from protosocket_rpc.errors import ConnectionClosed, FrameTooLarge, ProtocolError
from protosocket_rpc.raw.codecs import ProtobufCodec

Field = descriptor_pb2.FieldDescriptorProto


def _message_classes() -> tuple[Any, Any]:
    """One with the usual names and an enum, one with other names, another order and a number."""
    file = descriptor_pb2.FileDescriptorProto(name="own.proto", package="own", syntax="proto3")
    code = file.enum_type.add(name="Code")
    for number, name in enumerate(("NORMAL", "CANCEL", "END")):
        code.value.add(name=name, number=number)
    usual = file.message_type.add(name="Usual")
    usual.field.add(name="id", number=1, type=Field.TYPE_UINT64, label=Field.LABEL_OPTIONAL)
    usual.field.add(
        name="code",
        number=2,
        type=Field.TYPE_ENUM,
        type_name=".own.Code",
        label=Field.LABEL_OPTIONAL,
    )
    usual.field.add(name="text", number=3, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    other = file.message_type.add(name="Other")
    other.field.add(name="text", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    other.field.add(name="what", number=7, type=Field.TYPE_UINT32, label=Field.LABEL_OPTIONAL)
    other.field.add(name="rpc", number=9, type=Field.TYPE_FIXED64, label=Field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return (
        message_factory.GetMessageClass(pool.FindMessageTypeByName("own.Usual")),
        message_factory.GetMessageClass(pool.FindMessageTypeByName("own.Other")),
    )


Usual, Other = _message_classes()
USUAL: rpc.ProtobufMessage[Any] = rpc.ProtobufMessage(Usual)
OTHER: rpc.ProtobufMessage[Any] = rpc.ProtobufMessage(Other, id="rpc", code="what")


@pytest.mark.parametrize("type", [USUAL, OTHER])
def test_reads_and_writes_the_two_fields(type: rpc.MessageType[Any]) -> None:
    message = type.cancelled((1 << 64) - 1)
    assert type.message_id(message) == (1 << 64) - 1
    assert type.control_code(message) == rpc.ControlCode.CANCEL
    message = type.set_message_id(type.ended(1), 2)
    assert type.message_id(message) == 2
    assert type.control_code(message) == rpc.ControlCode.END


@pytest.mark.parametrize("names", [{"id": "identity"}, {"code": "what"}])
def test_a_field_that_is_not_there_is_named(names: dict[str, str]) -> None:
    (name,) = names.values()
    with pytest.raises(ValueError, match=rf"own\.Usual has no field '{name}'"):
        rpc.ProtobufMessage(Usual, **names)


class Service(rpc.ConnectionService[Any, Any]):
    """Requests are `Usual`, responses are `Other`."""

    def __init__(self, connection: object) -> None:
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        services.append(self)

    def new_rpc(self, request: Any) -> Any:
        return self.letters(request.text) if request.text.islower() else self.unary(request)

    async def unary(self, request: Any) -> Any:
        return Other(text=request.text * (1000 if request.text == "LARGE" else 1))

    async def letters(self, text: str) -> AsyncIterator[Any]:
        for letter in text:
            yield Other(text=letter)

    def on_close(self, cause: Exception | None) -> None:
        self.closed.set_result(cause)


services: list[Service] = []


@pytest.fixture
async def client() -> AsyncIterator[rpc.RpcClient[Any, Any]]:
    services.clear()
    async with (
        await rpc.serve(
            "127.0.0.1:0",
            lambda: ProtobufCodec(Usual, max_message_size=2000),
            Service,
            request=USUAL,
            response=OTHER,
        ) as server,
        await rpc.connect(
            server.target,
            ProtobufCodec(Other, max_message_size=2000),
            request=USUAL,
            response=OTHER,
        ) as client,
    ):
        yield client


async def test_requests_and_responses_of_two_types(client: rpc.RpcClient[Any, Any]) -> None:
    assert (await client.unary(Usual(text="ECHO"))).text == "ECHO"
    stream = client.stream(Usual(text="abc"))
    assert [response.text async for response in stream] == ["a", "b", "c"]


async def test_a_request_object_can_be_sent_again(client: rpc.RpcClient[Any, Any]) -> None:
    request = Usual(text="ECHO")
    replies = await asyncio.gather(*(client.unary(request) for _ in range(10)))
    assert sorted(reply.rpc for reply in replies) == list(range(1, 11))


async def test_a_request_too_large_for_the_server_ends_the_connection(
    client: rpc.RpcClient[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Not even whose it is can be known without reading it: the codec is the user's own."""
    with pytest.raises(ConnectionClosed):
        await client.unary(Usual(text="x" * 3000))
    assert type(await services[0].closed) is FrameTooLarge
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "max_message_size is 2000" in record.getMessage()


async def test_a_response_too_large_for_the_client_ends_the_connection(
    client: rpc.RpcClient[Any, Any],
) -> None:
    other = client.stream(Usual(text="abc"))
    with pytest.raises(ProtocolError, match="max_message_size is 2000") as caught:
        await client.unary(Usual(text="LARGE"))
    assert type(caught.value.__cause__) is FrameTooLarge
    assert [response.text async for response in other] == ["a", "b", "c"]
    await wait_until(lambda: not client.alive)
    with pytest.raises(ConnectionClosed):
        client.unary(Usual(text="ECHO"))
