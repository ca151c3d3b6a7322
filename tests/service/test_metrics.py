"""What a server counts: each RPC once, by method and code; what several have counted, together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectivity.service import echo
from service.pair import KINDS, failure, handlers, paired, result
from support import wait_until

import protosocket_rpc as ps
from protosocket_rpc.service.context import ServicerContext
from protosocket_rpc.service.limits import MAX_METHOD_LENGTH
from protosocket_rpc.service.metrics import (
    BUCKETS,
    MOST_METHODS,
    OTHER,
    REFUSED,
    Snapshot,
    empty_snapshot,
    merged,
    render,
)

PATHS = {kind: f"/test.Service/{kind.capitalize()}" for kind in KINDS}


def counted() -> dict[str, Any]:
    return {"metrics": ps.ServerMetrics()}


def codes(server: ps.Server, kind: str) -> dict[str, int]:
    method = server.snapshot()["methods"][PATHS[kind]]
    assert sum(method["buckets"]) == sum(method["codes"].values())
    return method["codes"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_ends_well(kind: str) -> None:
    async with paired(server=counted()) as pair:
        for _ in range(3):
            await result(pair.start(kind))
        assert codes(pair.server, kind) == {"OK": 3}
        assert list(pair.server.snapshot()["methods"]) == [PATHS[kind]]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_fails(kind: str) -> None:
    async def abort(request: Any, context: Any) -> Any:
        await context.abort(ps.StatusCode.NOT_FOUND, "no")

    async def fail(request: Any, context: Any) -> Any:
        raise ValueError

    for handler, code in ((abort, "NOT_FOUND"), (fail, "UNKNOWN")):
        async with paired(server=counted(), **handlers(handler)) as pair:
            await failure(pair.start(kind))
            assert codes(pair.server, kind) == {code: 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["cancelled", "expired", "lost", "stopped"])
async def test_what_ends_over_the_head_of_its_handler(kind: str, end: str) -> None:
    begun = asyncio.Event()

    async def hold(request: Any, context: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    async with paired(server=counted(), **handlers(hold)) as pair:
        if end == "expired":  # either side may notice it first
            await failure(pair.start(kind, timeout=0.3))
            await wait_until(lambda: pair.server.snapshot()["in_flight"] == 0)
            assert set(codes(pair.server, kind)) <= {"DEADLINE_EXCEEDED", "CANCELLED"}
            return
        call = pair.start(kind)
        await begun.wait()
        assert pair.server.snapshot()["in_flight"] == 1
        assert pair.server.snapshot()["connections"] == 1
        if end == "cancelled":
            call.cancel()
        elif end == "lost":
            await pair.channel.close()
        else:
            await pair.server.stop()
        await wait_until(lambda: pair.server.snapshot()["in_flight"] == 0)
        assert codes(pair.server, kind) == {"UNAVAILABLE" if end == "stopped" else "CANCELLED": 1}
        call.cancel()


async def test_a_large_reply_is_counted_once_it_has_left() -> None:
    async with paired(server=counted()) as pair:
        await pair.unary(b"x" * 300_000)
        assert codes(pair.server, "unary") == {"OK": 1}


async def test_what_is_refused() -> None:
    async with paired(server={**counted(), "maximum_concurrent_rpcs": 1}) as pair:
        unknown = pair.channel.unary_unary("/test.Service/Unknown")
        assert (await failure(unknown(b""))).code() is ps.StatusCode.UNIMPLEMENTED
        call = pair.both()
        await call.write(b"")
        await call.read()
        assert (await failure(pair.unary(b""))).code() is ps.StatusCode.RESOURCE_EXHAUSTED
        await call.done_writing()
        assert await call.read() is ps.EOF
        refused = pair.server.snapshot()["methods"][REFUSED]
        assert refused["codes"] == {"UNIMPLEMENTED": 1, "RESOURCE_EXHAUSTED": 1}


class PassesOn(ps.ServerInterceptor):
    """Gives the handler that was found; and for /answered, found or not, one of its own."""

    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.asked.append(details.method)
        if details.method == "/answered":
            return ps.unary_unary_rpc_method_handler(echo)
        return await continuation(details)


class Generic(ps.GenericRpcHandler):
    """Serves what is below /generic."""

    def service(self, details: Any) -> Any:
        if details.method == "/generic/broken":
            raise ValueError("of the lookup")
        if details.method.startswith("/generic/"):
            return ps.unary_unary_rpc_method_handler(echo)
        return None


@pytest.mark.parametrize("intercepted", [False, True])
async def test_methods_that_clients_make_up_are_counted_as_one(intercepted: bool) -> None:
    interceptor = PassesOn()
    interceptors = [interceptor] if intercepted else []
    options = {**counted(), "interceptors": interceptors, "handlers": [Generic()]}
    async with paired(server=options) as pair:
        longest = "/generic/".ljust(MAX_METHOD_LENGTH, "x")
        made_up = ["/a", "/answered", longest + "x", "/generic/broken"]
        for path in ("/generic/a", longest, *made_up, PATHS["unary"]):
            call = pair.channel.unary_unary(path)(b"")
            assert await call.code() is not ps.StatusCode.UNAVAILABLE
        methods = pair.server.snapshot()["methods"]
        assert sorted(methods) == sorted([REFUSED, "/generic/a", longest, PATHS["unary"]])
        assert sum(methods[REFUSED]["codes"].values()) == len(made_up)
    if intercepted:
        assert "/answered" in interceptor.asked
        assert longest + "x" not in interceptor.asked


async def test_without_it_nothing_is_counted() -> None:
    kinds: list[type[Any]] = []

    async def unary(request: bytes, context: Any) -> bytes:
        kinds.append(type(context))
        return request

    async with paired(Unary=unary) as pair:
        await pair.unary(b"")
        assert kinds == [ServicerContext]
        assert pair.server.snapshot() == {"methods": {}, "in_flight": 0, "connections": 1}


def test_a_server_that_was_not_started() -> None:
    assert ps.server(**counted()).snapshot() == empty_snapshot()


async def test_time_is_measured() -> None:
    async def slow(request: bytes, context: Any) -> AsyncIterator[bytes]:
        await asyncio.sleep(0.03)
        yield request

    async with paired(server=counted(), Replies=slow) as pair:
        await result(pair.replies(b""))
        method = pair.server.snapshot()["methods"][PATHS["replies"]]
        assert 0.02 < method["seconds"] < 30
        assert sum(method["buckets"][BUCKETS.index(0.025) :]) == 1


def test_no_more_methods_than_the_limit() -> None:
    metrics = ps.ServerMetrics()
    for number in range(MOST_METHODS + 10):
        metrics.count(f"/m/{number}", 0, 0.1)
    methods = metrics.methods()
    assert len(methods) == MOST_METHODS + 1
    assert methods[OTHER]["codes"] == {"OK": 10}


def snapshot(path: str, code: int, *seconds: float) -> Snapshot:
    metrics = ps.ServerMetrics()
    for each in seconds:
        metrics.count(path, code, each)
    return {"methods": metrics.methods(), "in_flight": 1, "connections": 2}


def test_the_sum_of_several() -> None:
    assert merged([]) == empty_snapshot()
    one = snapshot("/a", 0, 0.2, 0.2)
    assert merged([one]) == one
    total = merged([one, snapshot("/a", 5, 100.0), snapshot("/b", 0, 0.5)])
    assert total["in_flight"] == 3
    assert total["connections"] == 6
    assert total["methods"]["/a"]["codes"] == {"OK": 2, "NOT_FOUND": 1}
    assert total["methods"]["/a"]["buckets"][-1] == 1
    assert total["methods"]["/a"]["seconds"] == pytest.approx(100.4)
    assert total["methods"]["/b"]["codes"] == {"OK": 1}
    assert one == snapshot("/a", 0, 0.2, 0.2)  # what is added up stays as it was


def test_as_prometheus_reads_it() -> None:
    lines = render(snapshot('/a"\\\n', 0, 0.0001, 100.0)).splitlines()
    label = 'method="/a\\"\\\\\\n"'
    for line in (
        "# TYPE protosocket_server_connections gauge",
        "protosocket_server_connections 2",
        "protosocket_server_in_flight 1",
        "# TYPE protosocket_server_handled_total counter",
        f'protosocket_server_handled_total{{{label},code="OK"}} 2',
        "# TYPE protosocket_server_handling_seconds histogram",
        f'protosocket_server_handling_seconds_bucket{{{label},le="0.0001"}} 1',
        f'protosocket_server_handling_seconds_bucket{{{label},le="60.0"}} 1',
        f'protosocket_server_handling_seconds_bucket{{{label},le="+Inf"}} 2',
        f"protosocket_server_handling_seconds_sum{{{label}}} 100.0001",
        f"protosocket_server_handling_seconds_count{{{label}}} 2",
    ):
        assert line in lines
