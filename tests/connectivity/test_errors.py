"""Errors explain themselves, and survive pickling."""

from __future__ import annotations

import pickle
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from connectivity.peers import listening
from connectivity.service import UNARY, Stub, serving
from service.pair import failure, paired
from support import Certificates, free_port

import protosocket_rpc as ps
from protosocket_rpc.testing import VirtualClock


def fields(error: ps.AioRpcError) -> dict[str, str]:
    """The ``key=value`` pairs of what an error says of its call."""
    pairs = re.findall(r'(\w+)=("[^"]*"|\S+)', error.debug_error_string())
    return {key: value.strip('"') for key, value in pairs}


async def not_found(request: bytes, context: Any) -> bytes:
    await context.abort(ps.StatusCode.NOT_FOUND, "no such thing")
    return b""


async def test_refused() -> None:
    target = f"127.0.0.1:{free_port()}"
    async with ps.insecure_channel(target) as channel:
        error = await failure(Stub(channel).unary(b""))
    assert error.code() is ps.StatusCode.UNAVAILABLE
    assert target in (error.details() or "")
    assert isinstance(error.__cause__, ConnectionRefusedError)
    said = fields(error)
    assert said["target"] == target
    assert said["method"] == UNARY.path
    assert said["attempts"] == "0"
    assert 0 <= float(said["elapsed"].rstrip("s")) < 60
    assert said["channel"] == "TRANSIENT_FAILURE"
    assert said["hint"] == "is the server running, and is this its port?"
    assert error.debug_error_string() in str(error)


async def test_what_a_server_answered() -> None:
    async with serving(Unary=not_found) as server, ps.insecure_channel(server.target) as channel:
        error = await failure(Stub(channel).unary(b"", timeout=60))
        said = fields(error)
        assert said["target"] == server.target
        assert said["peer"] == f"ipv4:{server.target}"
        assert said["attempts"] == "1"
        assert said["channel"] == "READY"
        assert 0 <= float(said["elapsed"].rstrip("s")) < 60
        assert error.__cause__ is None


async def test_elapsed_is_a_range_for_a_call_that_needed_no_clock(
    virtual_clock: VirtualClock,
) -> None:
    """A call without a timeout reads no clock when it is made: the connection narrows it down."""
    async with paired(Unary=not_found) as pair:
        await pair.channel.channel_ready()
        session = pair.channel.connector().session
        assert session is not None
        await virtual_clock.advance(60)
        call = pair.unary(b"")
        await call.code()
        await virtual_clock.advance(60)
        earliest, latest = session.time_of(call.id, virtual_clock.time())
        assert earliest <= 60 <= latest
        assert latest - 60 <= 5  # of visits to the connection
        error = await failure(call)
        assert re.fullmatch(r"\d+\.\d+\.\.\d+\.\d+s", fields(error)["elapsed"])


async def test_lost_in_flight() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        peer.settings()
        await peer.next()
        peer.reset()
        error = await failure(call)
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert isinstance(error.__cause__, ConnectionResetError)
        assert fields(error)["peer"] == f"ipv4:{peers.target}"
        assert fields(error)["attempts"] == "1"


async def test_closed_without_a_word() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        await peer.next()
        peer.writer.close()
        error = await failure(call)
        assert "does it want TLS, or another protocol?" in fields(error)["hint"]


async def test_a_port_of_another_protocol() -> None:
    async with listening() as peers, ps.insecure_channel(peers.target) as channel:
        call = Stub(channel).unary(b"")
        peer = await peers.accept()
        peer.writer.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Connection: close\r\n\r\n400 Bad Request"
        )
        error = await failure(call)
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert isinstance(error.__cause__, ps.ProtocolError)
        assert "does not speak this protocol" in fields(error)["hint"]


async def test_a_certificate_for_another_name(certificates: Certificates) -> None:
    server = ps.server()
    port = server.add_secure_port("127.0.0.1:0", certificates.server_context())
    await server.start()
    async with ps.secure_channel(
        f"127.0.0.1:{port}", certificates.client_context(), server_hostname="elsewhere.test"
    ) as channel:
        error = await failure(Stub(channel).unary(b""))
        assert error.code() is ps.StatusCode.UNAVAILABLE
        assert "server_hostname" in fields(error)["hint"]
    await server.stop()


async def test_an_unknown_method() -> None:
    async with serving() as server, ps.insecure_channel(server.target) as channel:
        error = await failure(channel.unary_unary("/test.Service/Nothing")(b""))
        assert "does the server serve this service" in fields(error)["hint"]


async def test_a_missing_socket(socket_dir: Path) -> None:
    target = f"unix:{socket_dir / 'nobody'}"
    async with ps.insecure_channel(target) as channel:
        error = await failure(Stub(channel).unary(b""))
        assert fields(error)["hint"] == "there is no such socket: is the server running?"


async def test_pickling_keeps_the_chain_of_causes() -> None:
    async with ps.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        error = await failure(Stub(channel).unary(b""))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ps.AioRpcError
    assert (copy.code(), copy.details()) == (error.code(), error.details())
    assert copy.debug_error_string() == error.debug_error_string()
    assert isinstance(copy.__cause__, ConnectionRefusedError)
    assert isinstance(error.__cause__, OSError)
    assert copy.__cause__.errno == error.__cause__.errno


def test_pickling_goes_down_the_chain() -> None:
    try:
        try:
            try:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            except OSError as error:
                raise ps.ConnectionClosed("lost") from error
        except ps.ConnectionClosed as error:
            raise ps.AioRpcError(ps.StatusCode.UNAVAILABLE, details="gone") from error
    except ps.AioRpcError as error:
        copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy.__cause__, ps.ConnectionClosed)
    assert isinstance(copy.__cause__.__cause__, socket.gaierror)


def test_a_cause_that_cannot_be_pickled_leaves_its_text() -> None:
    class Local(Exception):
        pass

    error = ps.ConnectionClosed("lost")
    error.__cause__ = Local("for this reason")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy.__cause__) == "Local: for this reason"


@pytest.mark.parametrize(
    "error",
    [
        ps.ConnectionClosed("x"),
        ps.DecodeError("x"),
        ps.FrameTooLarge("x"),
        ps.OutputQueueFull("x"),
        ps.RemoteCancelled("x"),
        ps.RpcFinished("x"),
        ps.UsageError("x"),
        ps.AioRpcError(ps.StatusCode.ABORTED, details="x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_is_picklable(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
