"""Cancellation: a search that would go on for ever is given up by its client."""

import asyncio
import hashlib
import itertools
import sys

import grpc
import search_pb2
import search_pb2_grpc
from serving import serve


class Finder(search_pb2_grpc.FinderServicer):
    """Searches words by the beginning of their digests."""

    def __init__(self):
        self.abandoned = 0
        self.changed = asyncio.Condition()

    async def search(self, prefix):
        try:
            for number in itertools.count():
                word = f"word-{number}"
                digest = hashlib.sha256(word.encode()).hexdigest()
                if digest.startswith(prefix):
                    yield search_pb2.Found(word=word, digest=digest[:8])
                await asyncio.sleep(0)
        finally:
            self.abandoned += 1

    async def Find(self, request, context):
        context.add_done_callback(lambda context: None)
        found = self.search(request.prefix)
        try:
            async for each in found:
                return each
        finally:
            await found.aclose()

    async def FindAll(self, request, context):
        found = self.search(request.prefix)
        try:
            async for each in found:
                yield each
        finally:
            await found.aclose()

    async def CountAbandoned(self, request, context):
        """Answers once so many searches have ended as the prefix says."""
        while self.abandoned < int(request.prefix):  # noqa: ASYNC110  # short enough
            await asyncio.sleep(0.001)
        return search_pb2.Count(count=self.abandoned)


async def server(address):
    server = grpc.aio.server(maximum_concurrent_rpcs=100)
    search_pb2_grpc.add_FinderServicer_to_server(Finder(), server)
    await serve(server, address)


NEVER = search_pb2.Wanted(prefix="nothing begins like this")


async def ended(stub, number):
    count = await stub.CountAbandoned(search_pb2.Wanted(prefix=str(number)))
    print("searches that have ended:", count.count)


async def client(target):
    async with grpc.aio.insecure_channel(target) as channel:
        stub = search_pb2_grpc.FinderStub(channel)
        print("found", (await stub.Find(search_pb2.Wanted(prefix="000"))).word)
        await ended(stub, 1)

        # The call is cancelled, ...
        call = stub.Find(NEVER)
        ended_calls = []
        call.add_done_callback(lambda call: ended_calls.append((call.done(), call.cancelled())))
        await asyncio.sleep(0.05)
        print(call.cancel(), call.cancel())
        try:
            await call
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            print("cancelled:", await call.code(), await call.details(), ended_calls)

        # ... or the task that waits for it, ...
        call = stub.Find(NEVER)
        await asyncio.sleep(0.05)

        async def wait():
            await call

        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            print("the task was cancelled, and so was the call:", await call.code())

        # ... or its time is over, ...
        try:
            await stub.Find(NEVER, timeout=0.1)
        except grpc.aio.AioRpcError as error:
            print("too late:", error.code(), error.details())

        # ... or the stream was long enough.
        stream = stub.FindAll(search_pb2.Wanted(prefix="00"))
        words = []
        async for found in stream:
            words.append(found.word)
            if len(words) == 3:
                stream.cancel()
                break
        print(words, await stream.code())


if __name__ == "__main__":
    asyncio.run({"server": server, "client": client}[sys.argv[1]](sys.argv[2]))
