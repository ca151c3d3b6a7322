"""The two soak cases: large unary RPCs in sequence, on one channel, or each on one of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tests.grpc_interop.base_cases import size_of
from tests.grpc_interop.calling import Client

logger = logging.getLogger("interop")

Connect = Callable[[Client], AbstractAsyncContextManager[Client]]


async def rpc_soak(client: Client) -> Any:
    return await _soak(client, _as_it_is)


async def channel_soak(client: Client) -> Any:
    return await _soak(client, Client.opened)


@asynccontextmanager
async def _as_it_is(client: Client) -> AsyncIterator[Client]:
    yield client


async def _soak(client: Client, connect: Connect) -> Any:
    soak = client.soak
    limit = soak.overall_timeout_seconds
    if limit is None:
        limit = soak.iterations * soak.per_iteration_max_acceptable_latency_ms / 1000
    until = time.perf_counter() + limit
    each = soak.iterations // soak.num_threads
    threads = (_thread(client, connect, number, each, until) for number in range(soak.num_threads))
    done = [failed for results in await asyncio.gather(*threads) for failed in results]
    planned = each * soak.num_threads
    assert len(done) == planned, f"{len(done)} of {planned} iterations in {limit} s"
    assert sum(done) <= soak.max_failures, f"{sum(done)} of {planned} iterations failed"
    return [planned, sum(done)]


async def _thread(
    client: Client, connect: Connect, number: int, iterations: int, until: float
) -> list[bool]:
    """Which iterations have failed, of those that there was time for."""
    done: list[bool] = []
    earliest = 0.0
    for iteration in range(iterations):
        await asyncio.sleep(earliest - time.perf_counter())
        started = time.perf_counter()
        if started >= until:
            break
        earliest = started + client.soak.min_time_ms_between_rpcs / 1000
        error = await _iterate(client, connect)
        elapsed = (time.perf_counter() - started) * 1000
        if error is None and elapsed > client.soak.per_iteration_max_acceptable_latency_ms:
            error = "slower than acceptable"
        done.append(error is not None)
        logger.info(
            "thread_id: %d soak iteration: %d elapsed_ms: %d peer: %s server_uri: %s %s",
            *(number, iteration, elapsed, client.target, client.target),
            "succeeded" if error is None else f"failed: {error}",
        )
    return done


async def _iterate(client: Client, connect: Connect) -> str | None:
    """One RPC; why it has failed, if it has. It has no deadline, as the description wants it."""
    pb, soak = client.library.pb, client.soak
    payload = pb.Payload(body=bytes(soak.request_size))
    async with connect(client) as connected:
        request = pb.SimpleRequest(response_size=soak.response_size, payload=payload)
        try:
            size_of(await connected.stub.UnaryCall(request), soak.response_size)
        except client.library.aio.AioRpcError as error:
            return f"{error.code().name} {error.details()}"
    return None


CASES = [rpc_soak, channel_soak]
