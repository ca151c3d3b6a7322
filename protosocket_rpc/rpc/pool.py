"""A pool of connections that are shared, and made anew when they die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Hashable
from types import TracebackType
from typing import Any, Generic

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.rpc.client import RpcClient
from protosocket_rpc.rpc.own_session import Request, Response


class ConnectionPool(Generic[Request, Response]):
    """A number of connections, each made when it is first needed, and again when it has died.

    A connection carries any number of RPCs at a time, so that getting one takes it from nobody.
    Can be made before the loop runs.

    Args:
        connect: makes a connection, as ``lambda: connect("localhost:9000", ...)`` does. The place
            for what a new connection needs: credentials, a greeting, a choice of addresses.
        size: the number of connections.

    Raises:
        ValueError: `size` is less than 1.
    """

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, RpcClient[Request, Response]]],
        size: int = 1,
    ) -> None:
        if size < 1:
            raise ValueError(f"a pool has at least 1 connection, not {size}")
        self._slots = [_Slot(connect) for _ in range(size)]
        self._closed = False

    async def get(self, key: Hashable | None = None) -> RpcClient[Request, Response]:
        """A connection that is alive, as far as this side knows.

        One attempt is made to connect if need be; those who wait for the same connection share
        it, and its error.

        Args:
            key: the same connection is chosen for equal keys; any, if None.

        Raises:
            OSError: there is no connection to be had (or whatever else `connect` raises).
            ConnectionClosed: the pool is closed.
        """
        if self._closed:
            raise ConnectionClosed("the pool is closed")
        slots = self._slots
        slot = random.choice(slots) if key is None else slots[hash(key) % len(slots)]
        client = slot.client
        if client is not None and client.alive:
            return client
        return await slot.connect()

    async def close(self) -> None:
        """Close every connection, and give up those being made."""
        self._closed = True
        await asyncio.gather(*(slot.close() for slot in self._slots))

    async def __aenter__(self) -> ConnectionPool[Request, Response]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class _Slot(Generic[Request, Response]):
    """The place of one connection: none, one being made, or one."""

    def __init__(
        self, connect: Callable[[], Coroutine[Any, Any, RpcClient[Request, Response]]]
    ) -> None:
        self._connect = connect
        self._attempt: asyncio.Task[RpcClient[Request, Response]] | None = None
        self.client: RpcClient[Request, Response] | None = None

    async def connect(self) -> RpcClient[Request, Response]:
        """Join the attempt that is under way, or begin one."""
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = asyncio.get_running_loop().create_task(self._connect())
            attempt.add_done_callback(self._connected)
        # Whoever waits may be cancelled; the attempt goes on for the others.
        await asyncio.wait([attempt])
        if attempt.cancelled():
            raise ConnectionClosed("the pool was closed while it made the connection")
        try:
            return attempt.result()
        finally:
            del attempt  # what is raised holds this frame, and would be held by it

    def _connected(self, attempt: asyncio.Task[RpcClient[Request, Response]]) -> None:
        self._attempt = None
        if not attempt.cancelled() and attempt.exception() is None:
            self.client = attempt.result()

    async def close(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.cancel()
            await asyncio.wait([attempt])
        if self.client is not None:
            await self.client.close()
