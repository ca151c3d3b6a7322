"""Rust clients, and servers in Python."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from interop.exercise import Exercise
from interop.flavours import FLAVOURS, LARGEST, SERVICE, Flavour, serve_service
from interop.generated.exercise_pb2 import Blob
from interop.programs import HERE, Program, rust_client
from support import Certificates, Recorder, free_port, listening, server_process, wait_until

from protosocket_rpc.raw.codecs import ProtobufCodec

each = pytest.mark.parametrize("flavour", FLAVOURS, ids=str)


@asynccontextmanager
async def calling(
    flavour: Flavour, exercise: Exercise | None = None, *options: str
) -> AsyncIterator[Program]:
    """A Rust client of a Python server."""
    async with (
        flavour.serve(exercise or Exercise()) as target,
        rust_client(flavour.program, target, *options) as client,
    ):
        yield client


@each
async def test_a_unary_call(flavour: Flavour) -> None:
    async with calling(flavour) as client:
        assert await client.ask("echo 5") == "echoed 5"
        assert await client.ask("echo 0") == "echoed 0"


@each
async def test_thousands_in_flight_out_of_order(flavour: Flavour) -> None:
    """The exercise answers the last first, and each finds its own."""
    async with calling(flavour) as client:
        assert await client.ask("gather 3000") == "gathered 3000"


@each
async def test_a_stream_to_its_end(flavour: Flavour) -> None:
    async with calling(flavour) as client:
        assert await client.ask("count 10000") == "counted 10000"
        assert await client.ask("count 0") == "counted 0"


@each
async def test_an_abandoned_stream_ends_on_the_server(flavour: Flavour) -> None:
    async with calling(flavour) as client:
        assert await client.ask("take 3") == "took 3"
        assert await client.ask("ended 1") == "ended 1"


@each
async def test_a_dropped_call_ends_on_the_server(flavour: Flavour) -> None:
    exercise = Exercise()
    async with calling(flavour, exercise) as client:
        for _ in range(50):
            assert await client.ask("drop") == "dropped"
        assert await client.ask("ended 50") == "ended 50"
    assert exercise.cut_short == 50


@each
async def test_calls_that_are_given_up_at_once_do_not_hang_on_the_server(flavour: Flavour) -> None:
    """The cancellation of some leaves before what it cancels: the crate keeps no order there."""
    exercise = Exercise()
    async with calling(flavour, exercise) as client:
        assert await client.ask("give-up 1000") == "gave up 1000"
        # By the same way as the calls, and behind them.
        assert await client.ask("echo 1") == "echoed 1"
        await wait_until(lambda: exercise.hanging == 0)


@each
async def test_the_server_refuses(flavour: Flavour) -> None:
    async with calling(flavour) as client:
        said = await client.ask("refuse")
        if flavour is SERVICE:
            assert said == "error status 12: Method not found!"
        else:
            assert said == "error Rpc was cancelled remotely"
        assert await client.ask("echo 1") == "echoed 1"


@each
async def test_a_handler_that_raises(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client is told, but not what."""

    async def fail(self: Exercise, count: int) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(Exercise, "ended", fail)
    async with calling(flavour) as client:
        said = await client.ask("ended 1")
        if flavour is SERVICE:
            assert said.startswith("error status 2: ")
        else:
            assert said == "error Rpc was cancelled remotely"
        assert "secret" not in said
        assert "secret" in caplog.text
        assert await client.ask("echo 1") == "echoed 1"


@each
async def test_messages_up_to_the_limit(flavour: Flavour) -> None:
    async with calling(flavour) as client:
        largest = LARGEST - flavour.overhead
        assert await client.ask(f"echo {largest}") == f"echoed {largest}"


@each
async def test_a_request_above_the_server_s_limit(flavour: Flavour) -> None:
    async with calling(flavour) as client:
        for size in (LARGEST + 1, 6_000_000):
            said = await client.ask(f"echo {size}")
            if flavour is SERVICE:
                assert said.startswith("error status 8: ")
                assert "larger than max" in said
            else:
                assert said == "error Rpc was cancelled remotely"
        assert await client.ask("echo 1") == "echoed 1"


@each
async def test_a_reply_above_the_client_s_limit(flavour: Flavour) -> None:
    """Rust closes the connection; the next call has a new one."""
    async with calling(flavour, None, "--max-buffer", "200000") as client:
        said = await client.ask("echo 300000")
        if flavour is SERVICE:
            assert said == "error status 14: the connection is closed"
        else:
            assert said == "error Rpc was cancelled remotely"
        assert await client.ask("echo 1") == "echoed 1"


@each
async def test_malformed_messages_end_only_their_connection(
    flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    exercise = Exercise()
    async with (
        flavour.serve(exercise) as target,
        rust_client(flavour.program, target) as client,
        rust_client("raw", target, "--liar") as liar,
    ):
        client.tell("watch 3")
        assert await client.line() == "watching 3"
        assert await liar.ask("1 1") == "error the connection is gone"
        assert "127.0.0.1" in caplog.text
        async with rust_client(flavour.program, target) as other:
            assert await other.ask("echo 5") == "echoed 5"
        assert exercise.cut_short == 0  # the stream goes on, until this server is stopped


@each
async def test_the_server_stops_beside_a_stream(flavour: Flavour) -> None:
    """A Rust client can tell the end of a stream from the loss of its connection if it is typed."""
    exercise = Exercise()
    async with flavour.serve(exercise) as target:
        client_ = rust_client(flavour.program, target)
        client = await client_.__aenter__()
        client.tell("watch 3")
        assert await client.line() == "watching 3"
    try:
        said = await client.line()
        if flavour is SERVICE:
            assert said.startswith("error status 14: ")
        else:
            assert said == "finished"
        assert exercise.cut_short == 1
    finally:
        await client_.__aexit__(None, None, None)


@each
async def test_reconnecting_after_the_server_was_killed(flavour: Flavour) -> None:
    target = f"127.0.0.1:{free_port()}"
    arguments = (HERE / "serve.py", flavour.program, target)
    async with rust_client(flavour.program, target) as client:
        async with server_process(*arguments, ready="ready") as server:
            assert await client.ask("echo 1") == "echoed 1"
            client.tell("wait")
            assert await client.line() == "waiting"
            server.process.kill()
            await server.process.wait()
            said = await client.line()
            if flavour is SERVICE:
                assert said == "error status 14: the connection is closed"
            else:
                assert said == "error Rpc was cancelled remotely"
            assert "Connection refused" in await client.ask("echo 1")
        async with server_process(*arguments, ready="ready"):
            assert await client.ask("echo 2") == "echoed 2"
            client.tell("watch 3")
            assert await client.line() == "watching 3"
        said = await client.line()
        assert said == (
            "error status 14: the connection is closed" if flavour is SERVICE else "finished"
        )


@each
async def test_tls(flavour: Flavour, certificates: Certificates) -> None:
    context = certificates.server_context()
    if flavour is not SERVICE:
        context.set_alpn_protocols(["protosocket/1"])  # the client insists
    async with (
        flavour.serve(Exercise(), ssl=context) as target,
        rust_client(flavour.program, target, "--tls", certificates.authority.parent) as client,
    ):
        assert await client.ask("echo 5") == "echoed 5"
        assert await client.ask("count 1000") == "counted 1000"
        assert await client.ask("echo 1000000") == "echoed 1000000"


async def test_tls_without_alpn(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """The connectors of the crate know none: a server is told to take it, or it refuses.

    To the client the connection is made by then: a call may wait to be sent when it is lost, and
    that call the crate never ends.
    """
    options = ("--tls", certificates.authority.parent, "--unverified")
    context = certificates.server_context()
    async with (
        serve_service(Exercise(), ssl=context, any_alpn=True) as target,
        rust_client("service", target, *options) as client,
    ):
        assert await client.ask("echo 5") == "echoed 5"
    async with (
        serve_service(Exercise(), ssl=certificates.server_context()) as target,
        rust_client("service", target, *options, "--patience", "500") as client,
    ):
        assert (await client.ask("echo 5")).startswith("error ")
        await wait_until(lambda: "(ALPN) it agreed to no protocol" in caplog.text)


class Echo(Recorder):
    def on_message(self, message: Any) -> None:
        super().on_message(message)
        self.connection.send(message)


async def test_raw_messages() -> None:
    async with (
        listening(codec=lambda: ProtobufCodec(Blob), reactor=Echo) as (server, _),
        rust_client("raw", server.target) as client,
    ):
        assert await client.ask("1000 100") == "echoed 100000"
        assert await client.ask("3 1000000") == "echoed 3100000"


# -- services only ---------------------------------------------------------------------------


async def test_errors_are_statuses() -> None:
    async with calling(SERVICE) as client:
        assert await client.ask("fail 5 nothing") == "error status 5: nothing"
        assert await client.ask("count-and-fail 10 changed") == "0, status 10: changed"


async def test_metadata_and_deadline_arrive() -> None:
    """The servicer's trailers do not, and nobody is told."""
    async with calling(SERVICE) as client:
        said = await client.ask("overhear user ada 60000")
        assert said == "user=ada, deadline true"


async def test_a_deadline_is_kept_by_the_server() -> None:
    exercise = Exercise()
    async with calling(SERVICE, exercise) as client:
        assert (await client.ask("hurry 50")).startswith("error status 4: ")
        assert exercise.cut_short == 1
