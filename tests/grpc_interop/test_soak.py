"""What the flags of the soak cases do."""

from __future__ import annotations

import logging
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.grpc_interop.broken import FailingLater
from tests.grpc_interop.calling import Client, Soak
from tests.grpc_interop.cases import run
from tests.grpc_interop.library import load
from tests.grpc_interop.servicer import Handlers
from tests.grpc_interop.serving import serving

PATIENT = 20_000


@pytest.fixture(params=["rpc_soak", "channel_soak"])
def case(request: pytest.FixtureRequest, stubs: Path) -> str:
    name: str = request.param
    return name


async def soak(case: str, handlers: type[Handlers] = Handlers, **flags: Any) -> Any:
    flags = {"per_iteration_max_acceptable_latency_ms": PATIENT, "request_size": 9} | flags
    library, address = load("native"), f"memory:{uuid.uuid4().hex}"
    async with serving(library, address, handlers=handlers) as target:
        return await run(case, Client(library, target, soak=Soak(**flags)))


async def test_iterations_are_logged(case: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "interop"):
        assert await soak(case, FailingLater, iterations=6, max_failures=1) == [6, 1]
    line = r"soak iteration: (\d+) elapsed_ms: \d+ peer: \S+ server_uri: \S+ "
    succeeded = re.findall(f"{line}succeeded$", caplog.text, re.MULTILINE)
    failed = re.findall(f"{line}failed: INTERNAL", caplog.text, re.MULTILINE)
    assert (succeeded, failed) == (["0", "1", "2", "3", "5"], ["4"])


async def test_too_many_failures(case: str) -> None:
    with pytest.raises(AssertionError, match="2 of 10 iterations failed"):
        await soak(case, FailingLater, iterations=10, max_failures=1)


async def test_slow_iterations_are_failures(case: str) -> None:
    with pytest.raises(AssertionError, match="3 of 3 iterations failed"):
        await soak(
            case,
            iterations=3,
            per_iteration_max_acceptable_latency_ms=0,
            overall_timeout_seconds=PATIENT / 1000,
        )


async def test_overall_timeout(case: str) -> None:
    with pytest.raises(AssertionError, match="0 of 10 iterations in 0 s"):
        await soak(case, overall_timeout_seconds=0)


async def test_time_between_rpcs(case: str) -> None:
    started = time.perf_counter()
    await soak(case, iterations=3, min_time_ms_between_rpcs=20)
    assert time.perf_counter() - started >= 0.040


async def test_threads_share_the_iterations(case: str) -> None:
    assert await soak(case, iterations=6, num_threads=3) == [6, 0]


async def test_sizes(case: str) -> None:
    sizes = set()

    class Noting(Handlers):
        async def UnaryCall(self, request: Any, context: Any) -> Any:
            sizes.add((len(request.payload.body), request.response_size))
            return await super().UnaryCall(request, context)

    await soak(case, Noting, iterations=2, request_size=10, response_size=0)
    assert sizes == {(10, 0)}
