"""A ticker that speaks messages of its own.

protosocket generate examples/own_messages/ticker.proto --out examples/own_messages/generated
python examples/own_messages/server.py [TARGET]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from generated.ticker_pb2 import Price, Request, Response

from protosocket_rpc import raw, rpc
from protosocket_rpc.raw.codecs import ProtobufCodec

PRICES = {"ACME": 12_34, "INITECH": 5_00}


class Ticker(rpc.ConnectionService[Request, Response]):
    """One client's connection."""

    def __init__(self, connection: raw.Connection[Any, Any]) -> None:
        print(f"{connection.get_extra_info('peername')} is here", flush=True)

    def new_rpc(
        self, request: Request
    ) -> Awaitable[Response] | AsyncIterator[Response] | rpc.Rejection:
        match request.WhichOneof("body"):
            case "quote" if request.quote.symbol in PRICES:
                return self.quote(request.quote.symbol)
            case "follow" if request.follow.symbol in PRICES:
                return self.follow(request.follow.symbol)
        return rpc.REJECTED

    async def quote(self, symbol: str) -> Response:
        return Response(price=Price(symbol=symbol, cents=PRICES[symbol]))

    async def follow(self, symbol: str) -> AsyncIterator[Response]:
        cents = PRICES[symbol]
        try:
            while cents:
                yield Response(price=Price(symbol=symbol, cents=cents))
                await asyncio.sleep(0.01)
                cents -= 1_00 if cents > 1_00 else cents
        finally:
            print(f"{symbol} is followed no more", flush=True)

    def on_close(self, cause: Exception | None) -> None:
        print("gone" if cause is None else f"lost: {cause}", flush=True)


async def main(target: str) -> None:
    async with await rpc.serve(
        target,
        lambda: ProtobufCodec(Request),
        Ticker,
        request=rpc.ProtobufMessage(Request, id="id", code="code"),
        response=rpc.ProtobufMessage(Response, id="id", code="code"),
    ) as server:
        print(f"serving on {server.target}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9090"))
