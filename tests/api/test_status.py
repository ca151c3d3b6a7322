"""Status: all 17 codes, rich details, and what becomes of exceptions."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from connectivity.service import Stub, serving
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status as GoogleStatus

import protosocket_rpc as ps
from protosocket_rpc.compat.grpc_status import rpc_status
from protosocket_rpc.service.rich_status import RichStatus

KINDS = ["unary", "replies", "requests", "both"]

BAD_REQUEST = error_details_pb2.BadRequest(
    field_violations=[{"field": "date", "description": "no such day"}]
)
RETRY = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=3))


@asynccontextmanager
async def stub(**handlers: Any) -> AsyncIterator[Stub]:
    async with serving(**handlers) as server, ps.insecure_channel(server.target) as channel:
        yield Stub(channel)


async def error_of(stub: Stub, kind: str = "unary") -> ps.AioRpcError:
    method = getattr(stub, kind)
    call = method(iter([b"x"])) if kind in ("requests", "both") else method(b"x")
    with pytest.raises(ps.AioRpcError) as raised:
        await (call.read() if kind in ("replies", "both") else call)
    return raised.value


# -- rich details --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_messages_travel_with_a_status(kind: str) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        status = ps.rich_status(ps.StatusCode.INVALID_ARGUMENT, "no", BAD_REQUEST, RETRY)
        await context.abort_with_status(status)

    async with stub(**{kind.capitalize(): refuse}) as each:
        error = await error_of(each, kind)
    assert (error.code(), error.details()) == (ps.StatusCode.INVALID_ARGUMENT, "no")
    assert ps.status_details(error) == [BAD_REQUEST, RETRY]
    assert ps.status_details(pickle.loads(pickle.dumps(error))) == [BAD_REQUEST, RETRY]


@pytest.mark.parametrize(
    "name",
    [message.name for message in error_details_pb2.DESCRIPTOR.message_types_by_name.values()],
)
def test_every_standard_detail_is_packed_and_unpacked(name: str) -> None:
    message = getattr(error_details_pb2, name)()
    status = ps.rich_status(ps.StatusCode.INTERNAL, "", message)
    error = ps.AioRpcError(status.code, status_details=status.rich_details)
    (detail,) = ps.status_details(error)
    assert type(detail) is type(message)


def test_standard_details_need_no_import_of_their_module() -> None:
    """What a client gets that has not heard of them otherwise."""
    status = ps.rich_status(ps.StatusCode.INTERNAL, "", BAD_REQUEST)
    program = (
        "import protosocket_rpc as ps; "
        f"error = ps.AioRpcError(ps.StatusCode.INTERNAL, status_details={status.rich_details!r}); "
        "print(ps.status_details(error)[0].field_violations[0].field)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("date\n", "")


def test_detail_of_an_unknown_type_stays_packed() -> None:
    unknown = AnyMessage(type_url="type.googleapis.com/nobody.knows.This", value=b"\x08\x01")
    status = ps.rich_status(ps.StatusCode.INTERNAL, "", unknown)
    error = ps.AioRpcError(status.code, status_details=status.rich_details)
    assert ps.status_details(error) == [unknown]


async def test_without_details_there_are_none() -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(ps.StatusCode.INVALID_ARGUMENT, "no")
        return b""

    async with stub(Unary=refuse) as each:
        assert ps.status_details(await error_of(each)) == []


async def test_trailing_metadata_goes_along() -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        status = ps.rich_status(ps.StatusCode.ABORTED, "no", RETRY, trailing_metadata=[("k", "v")])
        await context.abort_with_status(status)
        return b""

    async with stub(Unary=refuse) as each:
        error = await error_of(each)
    assert error.trailing_metadata()["k"] == "v"
    assert ps.status_details(error) == [RETRY]


async def test_rich_status_from_a_thread() -> None:
    def refuse(request: bytes, context: ps.SyncServicerContext) -> bytes:
        context.abort_with_status(ps.rich_status(ps.StatusCode.ABORTED, "no", RETRY))
        return b""

    async with stub(Unary=refuse) as each:
        assert ps.status_details(await error_of(each)) == [RETRY]


# -- as in the package grpc_status ---------------------------------------------------------


def google_status() -> GoogleStatus:
    status = GoogleStatus(code=ps.StatusCode.INVALID_ARGUMENT.number, message="no")
    status.details.add().Pack(BAD_REQUEST)
    return status


async def test_google_status_both_ways() -> None:
    async def refuse(request: bytes, context: Any) -> Any:
        await context.abort_with_status(rpc_status.to_status(google_status()))
        yield b""

    async with stub(Replies=refuse) as each:
        assert rpc_status.from_call(await error_of(each, "replies")) == google_status()
        assert await rpc_status.aio.from_call(each.replies(b"")) == google_status()
        assert await rpc_status.aio.from_call(each.unary(b"")) is None


async def test_google_status_through_interceptors() -> None:
    async def watch(call: ps.ClientInvocation, next: ps.Next) -> AsyncIterator[Any]:
        async for reply in next(call):
            yield reply

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort_with_status(rpc_status.to_status(google_status()))
        return b""

    async def refuse_all(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await refuse(request, context)

    async with (
        serving(Unary=refuse, Replies=refuse_all) as server,
        ps.insecure_channel(server.target, interceptors=[watch]) as channel,
    ):
        assert await rpc_status.aio.from_call(Stub(channel).unary(b"")) == google_status()
        assert await rpc_status.aio.from_call(Stub(channel).replies(b"")) == google_status()


def test_details_that_came_the_way_of_grpc() -> None:
    content = google_status().SerializeToString()
    trailers = ps.Metadata(("grpc-status-details-bin", content))
    error = ps.AioRpcError(ps.StatusCode.INVALID_ARGUMENT, None, trailers, "no")
    assert rpc_status.from_call(error) == google_status()
    assert ps.status_details(error) == [BAD_REQUEST]


@pytest.mark.parametrize(
    ("code", "details", "text"),
    [(ps.StatusCode.ABORTED, "no", "code"), (ps.StatusCode.INVALID_ARGUMENT, "other", "message")],
)
def test_details_that_contradict_the_status(code: Any, details: str, text: str) -> None:
    trailers = ps.Metadata(("grpc-status-details-bin", google_status().SerializeToString()))
    with pytest.raises(ValueError, match=f"the {text} in google.rpc.Status"):
        rpc_status.from_call(ps.AioRpcError(code, None, trailers, details))


# -- exceptions ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_unexpected_exception_leaks_nothing_and_is_logged_in_full(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Any, context: Any) -> Any:
        raise LookupError("the password is hunter2")

    async with stub(**{kind.capitalize(): fail}) as each:
        error = await error_of(each, kind)
    assert error.code() is ps.StatusCode.UNKNOWN
    for text in (str(error), repr(error), error.debug_error_string(), str(error.details())):
        assert "hunter2" not in text
        assert "LookupError" not in text
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert f"/test.Service/{kind.capitalize()}" in record.getMessage()
    assert "ipv4:127.0.0.1:" in record.getMessage()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_status_that_cannot_be_sent_ends_the_call_all_the_same(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("m", "1"),))
        context._status_details = ("no bytes",)
        raise LookupError

    async with stub(**{kind.capitalize(): fail}) as each:
        error = await error_of(each, kind)
    assert error.code() is ps.StatusCode.UNKNOWN
    assert error.details() == "the handler failed; the server's log says how"
    assert error.initial_metadata() == ps.Metadata(("m", "1"))
    assert f"/test.Service/{kind.capitalize()}: its status cannot be sent" in caplog.text


async def test_rich_details_that_are_no_bytes_are_refused() -> None:
    raised: list[str] = []

    async def refuse(request: Any, context: Any) -> Any:
        for details in (("text",), (5,), b"bytes", (b"detail", None)):
            status = RichStatus(ps.StatusCode.NOT_FOUND, "no", details, (("k", "v"),))  # type: ignore[arg-type]  # that is the test
            try:
                await context.abort_with_status(status)
            except TypeError as error:
                raised.append(str(error))
        assert not context.done()
        assert context.details() == ""
        assert list(context.trailing_metadata()) == []
        await context.abort(ps.StatusCode.ABORTED, "yes")

    async with stub(Unary=refuse) as each:
        error = await error_of(each)
    assert (error.code(), error.details()) == (ps.StatusCode.ABORTED, "yes")
    assert error.status_details() == ()
    names = ("str", "int", "int", "NoneType")
    assert raised == [f"the rich details of a status are bytes, not {name}" for name in names]


async def test_code_of_another_librarys_enum_is_understood() -> None:
    import grpc

    async def refuse(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return b""

    async with stub(Unary=refuse) as each:
        assert (await error_of(each)).code() is ps.StatusCode.NOT_FOUND


@pytest.mark.parametrize("code", ["NOT_FOUND", None, 5.0])
def test_what_is_no_code_is_refused(code: Any) -> None:
    from protosocket_rpc.status import to_status_code

    with pytest.raises(TypeError, match="StatusCode"):
        to_status_code(code)


def test_the_codes_are_those_of_grpc() -> None:
    import grpc

    assert [(code.name, code.value) for code in ps.StatusCode] == [
        (code.name, code.value) for code in grpc.StatusCode
    ]
