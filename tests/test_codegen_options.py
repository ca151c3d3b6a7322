"""What protosocket/options.proto says holds on both sides of a call."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import protosocket_rpc
from protoc_plugin import generate
from protosocket_rpc import StatusCode

PROTO = """\
syntax = "proto3";
package options_test;
import "protosocket/options.proto";
message M { bytes data = 1; }
service Limits {
  option (protosocket.service) = { timeout: 60, max_request_size: 100, max_reply_size: 150 };
  rpc Echo(M) returns (M);
  rpc Stream(stream M) returns (stream M);
  rpc Slow(M) returns (M) { option (protosocket.method).timeout = 0.05; }
  rpc SlowReplies(M) returns (stream M) { option (protosocket.method).timeout = 0.05; }
  rpc SlowRequests(stream M) returns (M) { option (protosocket.method).timeout = 0.05; }
  rpc SlowBoth(stream M) returns (stream M) { option (protosocket.method).timeout = 0.05; }
  rpc Remaining(M) returns (M) { option (protosocket.method).timeout = 100; }
  rpc Old(M) returns (M) { option deprecated = true; }
  rpc Read(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Set(M) returns (M) { option idempotency_level = IDEMPOTENT; }
}
"""
# The same without limits: the other side of a peer that has not heard of them.
NO_LIMITS = re.sub(r"option \(protosocket\.\w+\).*?;", "", PROTO)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The modules ``limits`` and ``no_limits``, and the message M."""
    folder = tmp_path_factory.mktemp("options")
    modules = {}
    sys.path.insert(0, str(folder))
    try:
        for name, text in (("limits", PROTO), ("no_limits", NO_LIMITS)):
            (folder / f"protos_{name}").mkdir()
            (folder / f"protos_{name}" / "options_test.proto").write_text(text)
            arguments = [str(folder / f"protos_{name}"), "--out", str(folder / f"gen_{name}")]
            assert generate.main([*arguments, "--codec", "bytes"]) == 0
            modules[name] = import_module(f"gen_{name}.options_test_protosocket")
    finally:
        sys.path.remove(str(folder))
    return SimpleNamespace(**modules)


def servicer(module: Any) -> Any:
    class Limits(module.LimitsServicer):  # type: ignore[misc, name-defined]  # generated
        async def Echo(self, request: bytes, context: Any) -> bytes:
            return request * 2

        async def Stream(
            self, requests: AsyncIterator[bytes], context: Any
        ) -> AsyncIterator[bytes]:
            async for request in requests:
                yield request * 2

        async def Slow(self, request: bytes, context: Any) -> bytes:
            assert context.time_remaining() < 0.06  # 0.05, and what a clock's floats add
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

        async def SlowReplies(self, request: Any, context: Any) -> AsyncIterator[bytes]:
            yield await self.Slow(b"", context)

        async def SlowRequests(self, requests: Any, context: Any) -> bytes:
            return await self.Slow(b"", context)

        async def SlowBoth(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
            yield await self.Slow(b"", context)

        async def Remaining(self, request: bytes, context: Any) -> bytes:
            return b"%f" % context.time_remaining()

        async def Old(self, request: bytes, context: Any) -> bytes:
            return request

    return Limits()


@asynccontextmanager
async def connected(
    server_module: Any, client_module: Any, interceptors: Sequence[Any] = ()
) -> AsyncIterator[Any]:
    server = protosocket_rpc.server(interceptors=interceptors)
    server.add(servicer(server_module))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with protosocket_rpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield client_module.LimitsStub(channel)
    finally:
        await server.stop()


async def refusal(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(protosocket_rpc.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def refusal_of_stream(call: Any) -> tuple[StatusCode, str]:
    with pytest.raises(protosocket_rpc.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value.code(), caught.value.details()


async def test_what_is_within_the_limits_passes(generated: Any) -> None:
    async with connected(generated.limits, generated.limits) as stub:
        assert await stub.Echo(b"x" * 75) == b"x" * 150
        assert [reply async for reply in stub.Stream([b"x" * 75])] == [b"x" * 150]


@pytest.mark.parametrize(
    ("server", "client", "verbs"),
    [
        ("limits", "no_limits", ("Received", "Sent")),
        ("no_limits", "limits", ("Sent", "Received")),
    ],
)
async def test_either_side_refuses_what_is_larger(
    server: str, client: str, verbs: tuple[str, str], generated: Any
) -> None:
    """Requests above 100 bytes, and replies, twice as large as their requests, above 150."""
    async with connected(getattr(generated, server), getattr(generated, client)) as stub:
        for size, expected, setting in (
            (101, f"{verbs[0]} message larger than max (101 vs. 100)", "max_request_size"),
            (80, f"{verbs[1]} message larger than max (160 vs. 150)", "max_reply_size"),
        ):
            request = b"x" * size
            for code, details in (
                await refusal(stub.Echo(request)),
                await refusal_of_stream(stub.Stream([b"x", request])),
            ):
                assert code is StatusCode.RESOURCE_EXHAUSTED
                assert expected in details
                assert f"{setting} of the method" in details


async def test_a_reply_that_cannot_be_taken_is_not_lost_behind_the_end(generated: Any) -> None:
    """The last reply and the end of the stream have both arrived when the reply is read."""
    async with connected(generated.no_limits, generated.limits) as stub:
        call = stub.Stream([b"x" * 80])
        assert await call.code() is StatusCode.OK
        code, _ = await refusal_of_stream(call)
        assert code is StatusCode.RESOURCE_EXHAUSTED
        assert await call.code() is StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", ["Slow", "SlowReplies", "SlowRequests", "SlowBoth"])
@pytest.mark.parametrize(("server", "client"), [("limits", "no_limits"), ("no_limits", "limits")])
async def test_a_default_timeout_holds_if_one_side_knows_of_it(
    server: str, client: str, method: str, generated: Any
) -> None:
    """Whatever the kind of the method."""
    async with connected(getattr(generated, server), getattr(generated, client)) as stub:
        call = getattr(stub, method)
        if method in ("Slow", "SlowRequests"):
            code, _ = await refusal(call([b""] if method == "SlowRequests" else b""))
        else:
            code, _ = await refusal_of_stream(call([b""] if method == "SlowBoth" else b""))
        assert code is StatusCode.DEADLINE_EXCEEDED


class PassesOn(protosocket_rpc.ServerInterceptor):
    """Of gRPC's kind; gives the handler that was found."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        return await continuation(details)


class Replaces(protosocket_rpc.ServerInterceptor):
    """Gives another handler, as those do that are to see requests and replies."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        found = await continuation(details)
        if found.request_streaming:

            async def replies(requests: Any, context: Any) -> AsyncIterator[bytes]:
                async for reply in found.stream_stream(requests, context):
                    yield reply

            return found._replace(stream_stream=replies)

        async def reply(request: Any, context: Any) -> Any:
            return await found.unary_unary(request, context)

        return found._replace(unary_unary=reply)


async def sees_all(call: Any, next: Any) -> AsyncIterator[Any]:
    """An interceptor of this package's own shape."""
    async for reply in next(call):
        yield reply


async def test_a_default_timeout_holds_behind_an_interceptor_of_grpcs_kind(generated: Any) -> None:
    async with connected(generated.limits, generated.no_limits, [PassesOn()]) as stub:
        code, _ = await refusal(stub.Slow(b""))
        assert code is StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(
    "interceptors",
    [[sees_all], [PassesOn()], [Replaces()], [Replaces(), sees_all], [sees_all, PassesOn()]],
    ids=["own", "passes on", "replaces", "replaces own", "own passes on"],
)
async def test_limits_hold_behind_interceptors(interceptors: list[Any], generated: Any) -> None:
    async with connected(generated.limits, generated.no_limits, interceptors) as stub:
        for size, setting in ((101, "max_request_size"), (80, "max_reply_size")):
            for code, details in (
                await refusal(stub.Echo(b"x" * size)),
                await refusal_of_stream(stub.Stream([b"x" * size])),
            ):
                assert code is StatusCode.RESOURCE_EXHAUSTED
                assert f"{setting} of the method" in details
        assert await stub.Echo(b"x" * 75) == b"x" * 150


async def test_a_callers_timeout_goes_before_the_default(generated: Any) -> None:
    async with connected(generated.limits, generated.limits) as stub:
        assert 0 < float(await stub.Remaining(b"")) <= 100
        assert 100 < float(await stub.Remaining(b"", timeout=1000)) <= 1000


@pytest.mark.parametrize("client", ["limits", "no_limits"])
async def test_a_caller_may_have_for_ever(client: str, generated: Any) -> None:
    async with connected(generated.limits, getattr(generated, client)) as stub:
        call = stub.Remaining(b"", timeout=math.inf)
        assert call.time_remaining() is None
        assert float(await call) > 1e8


async def test_a_deprecated_method_warns_once_of_the_calling_line(generated: Any) -> None:
    async with connected(generated.limits, generated.limits) as stub:
        with pytest.warns(
            DeprecationWarning, match="/options_test.Limits/Old is deprecated"
        ) as seen:
            assert await stub.Old(b"x") == b"x"
        assert [Path(warning.filename) for warning in seen] == [Path(__file__)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert await stub.Old(b"x") == b"x"


def test_a_descriptor_says_how_idempotent_its_method_is(generated: Any) -> None:
    levels = {
        method.name: (method.idempotency_level, method.idempotent)
        for method in generated.limits.LIMITS.methods
        if method.name in ("Echo", "Read", "Set")
    }
    assert levels == {
        "Echo": ("IDEMPOTENCY_UNKNOWN", False),
        "Read": ("NO_SIDE_EFFECTS", True),
        "Set": ("IDEMPOTENT", True),
    }
