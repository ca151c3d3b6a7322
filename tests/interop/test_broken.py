"""Against a counterpart that is broken on purpose, what the tests check does not hold.

The other test modules are the control: there the same checks pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from interop import test_python_to_rust as to_rust
from interop import test_rust_to_python as to_python
from interop import test_vectors
from interop.exercise import Exercise
from interop.flavours import FLAVOURS, SERVICE, Flavour
from interop.generated.exercise_pb2 import Blob
from interop.programs import Program
from interop.test_python_to_rust import each, failure
from support import Certificates
from wire.frames import load_frame_pb2

from protosocket_rpc import ProtosocketError
from protosocket_rpc.raw import Connection
from protosocket_rpc.rpc.early_cancels import EarlyCancels

Check = Callable[[Flavour], Awaitable[None]]


@pytest.fixture(autouse=True)
def _unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pytest takes itself to be on CI, it explains a failed comparison at any length.

    The differences of a thousand messages take it minutes; nobody reads those expected here.
    """
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("BUILD_NUMBER", raising=False)


async def fails(check: Awaitable[None], *, hangs: bool = False) -> None:
    """A check fails by what it sees, or else may wait for what never comes."""
    error = await failure(asyncio.wait_for(check, 1 if hangs else 20))
    if not (hangs and isinstance(error, asyncio.TimeoutError)):
        assert isinstance(error, (AssertionError, ProtosocketError, OSError)), repr(error)


def broken(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Rust programs that start from now on: see rust/src/broken.rs."""
    monkeypatch.setenv("INTEROP_BROKEN", how)


@each
@pytest.mark.parametrize(
    ("how", "check"),
    [
        pytest.param("body", to_rust.test_a_unary_call, id="server-body"),
        pytest.param("id", to_rust.test_thousands_in_flight_out_of_order, id="server-id"),
        pytest.param("end", to_rust.test_a_stream_to_its_end, id="server-end"),
        pytest.param("body", to_rust.test_many_streams_at_a_time, id="server-streams"),
        pytest.param("body", to_rust.test_messages_up_to_the_limit, id="server-large"),
        pytest.param("body", to_python.test_a_unary_call, id="client-body"),
        pytest.param("id", to_python.test_thousands_in_flight_out_of_order, id="client-id"),
        pytest.param("body", to_python.test_messages_up_to_the_limit, id="client-large"),
    ],
)
async def test_a_rust_program(
    flavour: Flavour, how: str, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(how, monkeypatch)
    await fails(check(flavour))


@pytest.mark.parametrize("flavour", FLAVOURS[1:], ids=str)  # a service refuses by a status
async def test_a_rust_server_that_does_not_cancel(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("cancel", monkeypatch)
    await fails(to_rust.test_the_server_refuses(flavour))


@each
@pytest.mark.parametrize(
    "check",
    [
        to_python.test_a_dropped_call_ends_on_the_server,
        to_python.test_an_abandoned_stream_ends_on_the_server,
    ],
)
async def test_a_rust_client_that_does_not_cancel(
    flavour: Flavour, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("cancel", monkeypatch)
    await fails(check(flavour), hangs=True)


@each
async def test_a_python_server_that_miscounts(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = Exercise.count

    async def count(self: Exercise, count: int, then_hang: bool) -> AsyncIterator[int]:
        async for number in numbers(self, count + 1, then_hang):
            yield number

    monkeypatch.setattr(Exercise, "count", count)
    await fails(to_python.test_a_stream_to_its_end(flavour))


@each
async def test_a_python_server_that_does_not_wait(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(self: Exercise) -> None:
        pass

    monkeypatch.setattr(Exercise, "hang", hang)
    await fails(to_python.test_a_dropped_call_ends_on_the_server(flavour), hangs=True)


# -- deaths, and who suffers -----------------------------------------------------------------


@each
@pytest.mark.parametrize(
    "check",
    [
        to_rust.test_a_stream_cut_by_the_death_of_its_server,
        to_rust.test_reconnecting_after_the_server_was_killed,
    ],
)
async def test_a_rust_server_that_is_not_killed(
    flavour: Flavour, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kill(self: Program) -> None:
        pass

    monkeypatch.setattr(Program, "kill", kill)
    await fails(check(flavour), hangs=True)


@each
@pytest.mark.parametrize("how", ["body", "never"])
async def test_a_rust_server_that_is_not_what_it_was_before_it_was_killed(
    flavour: Flavour, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = to_rust.rust_server

    def restart(program: str, target: str | None = None) -> AbstractAsyncContextManager[Program]:
        if target is not None:
            broken(how, monkeypatch)
            if how == "never":
                target = None  # somewhere else
        return start(program, target=target)

    monkeypatch.setattr(to_rust, "rust_server", restart)
    await fails(to_rust.test_reconnecting_after_the_server_was_killed(flavour), hangs=True)


@each
async def test_a_python_server_that_does_not_come_back(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = to_python.server_process
    targets: list[str] = []

    def restart(path: Path, program: str, target: str, ready: str) -> Any:
        targets.append(target if not targets else "127.0.0.1:0")
        return start(path, program, targets[-1], ready=ready)

    monkeypatch.setattr(to_python, "server_process", restart)
    await fails(to_python.test_reconnecting_after_the_server_was_killed(flavour))
    assert len(targets) == 2


@each
async def test_a_rust_server_that_dies_of_malformed_bytes(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("malformed", monkeypatch)
    await fails(to_rust.test_malformed_bytes_end_only_their_connection(flavour), hangs=True)


@each
async def test_a_python_server_whose_connections_all_suffer(
    flavour: Flavour, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections: list[Connection[Any, Any]] = []
    open_, fail = Connection.connection_made, Connection._fail

    def connection_made(self: Connection[Any, Any], transport: Any) -> None:
        connections.append(self)
        open_(self, transport)

    def _fail(self: Connection[Any, Any], error: BaseException) -> None:
        fail(self, error)
        for one in connections:
            one.abort(ConnectionError("another one has failed"))

    monkeypatch.setattr(Connection, "connection_made", connection_made)
    monkeypatch.setattr(Connection, "_fail", _fail)
    await fails(to_python.test_malformed_messages_end_only_their_connection(flavour, caplog))


@each
async def test_a_python_server_that_ignores_early_cancels(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EarlyCancels, "add", lambda self, id, last_id: None)
    check = to_python.test_calls_that_are_given_up_at_once_do_not_hang_on_the_server(flavour)
    await fails(check, hangs=True)


# -- TLS, raw, statuses, vectors ---------------------------------------------------------------


@each
@pytest.mark.parametrize("how", ["certificate", "body"])
async def test_tls(
    flavour: Flavour, how: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(how, monkeypatch)
    await fails(to_rust.test_tls(flavour, certificates))
    await fails(to_python.test_tls(flavour, certificates))


async def test_tls_of_another_protocol(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("alpn", monkeypatch)
    await fails(to_rust.test_tls(SERVICE, certificates))
    await fails(to_python.test_tls(SERVICE, certificates), hangs=True)


async def test_a_raw_server(monkeypatch: pytest.MonkeyPatch) -> None:
    broken("body", monkeypatch)
    await fails(to_rust.test_raw_messages())


async def test_a_raw_client_s_python_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def on_message(self: to_python.Echo, message: Any) -> None:
        self.connection.send(Blob(data=message.data[:-1]))

    monkeypatch.setattr(to_python.Echo, "on_message", on_message)
    await fails(to_python.test_raw_messages(), hangs=True)


@pytest.mark.parametrize(
    "check",
    [
        to_rust.test_errors_are_statuses,
        to_rust.test_metadata_and_deadline_arrive,
        to_python.test_errors_are_statuses,
        to_python.test_metadata_and_deadline_arrive,
    ],
)
async def test_statuses_and_metadata(
    check: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("body", monkeypatch)
    await fails(check())


@pytest.mark.parametrize(
    "check",
    [
        test_vectors.test_the_captured_bytes_are_what_rust_writes,
        test_vectors.test_rust_reads_every_frame_and_writes_the_same_bytes,
        lambda: test_vectors.test_rust_reads_what_others_may_have_written(load_frame_pb2()),
        test_vectors.test_rust_reads_messages_of_our_encoders,
    ],
)
def test_vectors_of_a_rust_encoder(
    check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken("body", monkeypatch)
    with pytest.raises(Exception, match=r"."):
        check()
