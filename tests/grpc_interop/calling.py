"""What a case calls with: a channel of any library, to one target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.grpc_interop.library import Library
from tests.grpc_interop.meter import Meter


@dataclass(frozen=True)
class Soak:
    """The flags of the soak cases, each with ``soak_`` before it there.

    Attributes:
        overall_timeout_seconds: None for what all iterations together may take.
    """

    iterations: int = 10
    max_failures: int = 0
    per_iteration_max_acceptable_latency_ms: int = 1000
    overall_timeout_seconds: float | None = None
    min_time_ms_between_rpcs: int = 0
    request_size: int = 271828
    response_size: int = 314159
    num_threads: int = 1


@dataclass(frozen=True)
class Client:
    """Where to, how, and what with.

    Attributes:
        credentials: of the channel; None for an insecure one.
        options: of the channel.
        channel: is open.
        replies: what the server has sent, if it is counted.
    """

    library: Library
    target: str
    credentials: Any = None
    options: tuple[tuple[str, Any], ...] = ()
    soak: Soak = field(default_factory=Soak)
    channel: Any = None
    replies: Meter | None = None

    @property
    def stub(self) -> Any:
        return self.library.services.TestServiceStub(self.channel)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Client]:
        """The same with a channel of its own."""
        aio, options = self.library.aio, self.options
        if self.credentials is None:
            made = aio.insecure_channel(self.target, options=options)
        else:
            made = aio.secure_channel(self.target, self.credentials, options=options)
        async with made as channel:
            yield replace(self, channel=channel)


async def failure(client: Client, outcome: Awaitable[Any]) -> list[Any]:
    """The status that a call fails with: its code's name, and its message."""
    try:
        reply = await outcome
    except client.library.aio.AioRpcError as error:
        return [error.code().name, error.details()]
    raise AssertionError(f"not a failure: {reply!r}")
