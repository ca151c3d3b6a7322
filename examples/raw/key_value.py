"""A key-value service whose answers come when they are ready, in any order.

    $ python -m examples.raw.key_value 127.0.0.1:7000

A request is ``[id, command, *arguments]``, an answer ``[id, result]``, as MessagePack. The id is
the client's affair: `Client` matches answers with requests. ``wait`` is answered once somebody has
set the key, and holds up nothing meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import defaultdict
from typing import Any

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw import Connection, Reactor, connect, serve
from protosocket_rpc.raw.codecs import MessagePackCodec


class Store:
    """What all connections share: the values, and who waits for one."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.waiting: dict[str, list[tuple[StoreConnection, int]]] = defaultdict(list)


class StoreConnection(Reactor[Any, Any]):
    def __init__(self, store: Store) -> None:
        self.store = store

    def on_open(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection

    def on_message(self, message: Any) -> None:
        match message:
            case [int(id), "get", str(key)]:
                self.connection.send([id, self.store.values.get(key)])
            case [int(id), "set", str(key), value]:
                self.store.values[key] = value
                self.connection.send([id, True])
                for waiter, waiting_id in self.store.waiting.pop(key, ()):
                    if not waiter.connection.closing:
                        waiter.connection.send([waiting_id, value])
            case [int(id), "wait", str(key)] if key in self.store.values:
                self.connection.send([id, self.store.values[key]])
            case [int(id), "wait", str(key)]:
                self.store.waiting[key].append((self, id))
            case _:
                raise ValueError(f"not a request: {message!r}")  # ends this connection

    def on_close(self, cause: Exception | None) -> None:
        for key, waiters in list(self.store.waiting.items()):
            waiters[:] = [waiter for waiter in waiters if waiter[0] is not self]
            if not waiters:
                del self.store.waiting[key]


class Client(Reactor[Any, Any]):
    """Any number of requests at a time on one connection: ``await client.ask("get", "key")``."""

    def __init__(self) -> None:
        self.asked: dict[int, asyncio.Future[Any]] = {}
        self.ids = itertools.count(1)

    def on_open(self, connection: Connection[Any, Any]) -> None:
        self.connection = connection

    async def ask(self, *request: Any) -> Any:
        id = next(self.ids)
        future = self.asked[id] = asyncio.get_running_loop().create_future()
        try:
            self.connection.send([id, *request])
            return await future
        finally:
            del self.asked[id]

    def on_message(self, message: Any) -> None:
        id, result = message
        future = self.asked.get(id)
        if future is not None and not future.done():
            future.set_result(result)

    def on_close(self, cause: Exception | None) -> None:
        for future in self.asked.values():
            if not future.done():
                future.set_exception(ConnectionClosed("the service is gone"))


async def connect_client(target: str) -> Client:
    client = Client()
    await connect(target, MessagePackCodec(), client)
    return client


async def main(target: str) -> None:
    store = Store()
    async with await serve(target, MessagePackCodec, lambda: StoreConnection(store)) as server:
        print(f"serving on {server.target}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
