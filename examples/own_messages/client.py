"""Asks the ticker for prices.

python examples/own_messages/client.py [TARGET]
"""

from __future__ import annotations

import asyncio
import sys

from generated.ticker_pb2 import Follow, Quote, Request, Response

from protosocket_rpc import RemoteCancelled, rpc
from protosocket_rpc.raw.codecs import ProtobufCodec


async def main(target: str) -> None:
    async with await rpc.connect(
        target,
        ProtobufCodec(Response),
        request=rpc.ProtobufMessage(Request, id="id", code="code"),
        response=rpc.ProtobufMessage(Response, id="id", code="code"),
    ) as client:
        # Any number at a time; the library sets the ids.
        replies = await asyncio.gather(
            *(client.unary(Request(quote=Quote(symbol=name))) for name in ("ACME", "INITECH"))
        )
        for reply in replies:
            print(f"{reply.price.symbol} is at {reply.price.cents}")

        # To its end.
        prices = [
            response.price.cents
            async for response in client.stream(Request(follow=Follow(symbol="INITECH")))
        ]
        print(f"INITECH went {' '.join(map(str, prices))}, and that was it")

        # Leaving the loop drops the iterator, which cancels the RPC: the server's handler stops.
        async for response in client.stream(Request(follow=Follow(symbol="ACME"))):
            print(f"ACME is at {response.price.cents}, enough")
            break

        try:
            await client.unary(Request(quote=Quote(symbol="UMBRELLA")))
        except RemoteCancelled as error:
            print(f"UMBRELLA: {error}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9090"))
