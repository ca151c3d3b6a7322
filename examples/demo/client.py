"""An evening at the observatory: everything that a call can do, on one connection.

python -m examples.demo.client ADDRESS

Says what it does and what came of it, and checks that it did: exits with 1 if anything did not.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time

import protosocket_rpc
from protosocket_rpc import AioRpcError, StatusCode

from . import loop
from .generated.observatory_pb2 import (
    Drift,
    Exposure,
    LogEntry,
    ObserveRequest,
    ReadLogbookRequest,
    SurveyRequest,
)
from .generated.observatory_protosocket import ObservatoryStub

BURST_SECONDS = 2.0
BURST_CALLS = 64  # in flight at a time


class NotSo(Exception):
    """Something that the demo claims is not so."""


def check(holds: bool, claim: str) -> None:
    if not holds:
        raise NotSo(claim)


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


async def four_kinds(observatory: ObservatoryStub) -> None:
    title("One call of each kind")

    vega = await observatory.Observe(ObserveRequest(star="Vega", exposure_ms=20))
    print(f"unary             Vega, 20 ms: {vega.photons} photons")
    check(vega.photons > 0, "an exposure of 20 ms collects light")

    survey = observatory.Survey(SurveyRequest(faintest=0.1))
    stars = [(sighting.star, sighting.magnitude) async for sighting in survey]
    print("server streaming  brighter than 0.1: " + ", ".join(star for star, _ in stars))
    check(len(stars) == 5, "five stars are brighter than 0.1")
    check(stars == sorted(stars, key=lambda star: star[1]), "the brightest comes first")

    exposures = [Exposure(photons=vega.photons + n) for n in range(25)]
    picture = await observatory.Stack(exposures)
    print(
        f"client streaming  {picture.exposures} exposures in one picture: "
        f"{picture.photons} photons, signal to noise {picture.signal_to_noise:.0f}"
    )
    total = sum(exposure.photons for exposure in exposures)
    check((picture.exposures, picture.photons) == (25, total), "no exposure was lost")
    check(math.isclose(picture.signal_to_noise**2, total), "the noise is that of the total")

    # Each drift depends on the correction before it: this is a conversation.
    guiding = observatory.Guide()
    drifts = [8.0]
    for _ in range(7):
        await guiding.write(Drift(arcseconds=drifts[-1]))
        correction = await guiding.read()
        drifts.append(drifts[-1] + correction.arcseconds)
    await guiding.done_writing()
    check(await guiding.read() is protosocket_rpc.EOF, "the guide ends when its caller has")
    check(await guiding.code() is StatusCode.OK, "the guide ends well")
    print("both streaming    drift in arcseconds: " + " > ".join(f"{d:.2f}" for d in drifts))
    check(abs(drifts[-1]) < 0.1, "the star is centred after seven corrections")


async def out_of_order(observatory: ObservatoryStub) -> None:
    title("Sixteen exposures at once, the longest first")
    started = time.perf_counter()
    finished: list[int] = []

    async def expose(exposure_ms: int) -> None:
        sighting = await observatory.Observe(ObserveRequest(star="Deneb", exposure_ms=exposure_ms))
        after = (time.perf_counter() - started) * 1000
        finished.append(exposure_ms)
        bar = "=" * (exposure_ms // 10)
        print(f"asked for {exposure_ms:3} ms |{bar:<32}| answered after {after:3.0f} ms")
        check(sighting.photons > 0, "every exposure collects light")

    asked = [20 * n for n in range(16, 0, -1)]
    await asyncio.gather(*map(expose, asked))
    elapsed = time.perf_counter() - started
    print(f"{sum(asked)} ms of exposures took {elapsed * 1000:.0f} ms")
    check(finished == sorted(asked), "the answers came back shortest first, the reverse of asking")
    check(elapsed < sum(asked) / 1000 / 2, "no exposure waited for another")


async def cancel(observatory: ObservatoryStub) -> None:
    title("A patrol that is cancelled")
    patrol = observatory.Survey(
        SurveyRequest(faintest=2, patrol=True), metadata=[("observation", "patrol")], timeout=60
    )
    seen = [(await patrol.read()).star for _ in range(5)]
    print("seen so far: " + ", ".join(seen))
    check(patrol.cancel(), "a call in flight can be cancelled")
    check(await patrol.code() is StatusCode.CANCELLED, "its code is CANCELLED")
    entry = await observatory.ReadLogbook(ReadLogbookRequest(observation="patrol"), timeout=5)
    print(f"the logbook: {LogEntry.End.Name(entry.end)} after {entry.sightings} sightings")
    check(entry.end == LogEntry.END_STOPPED, "the handler was stopped")
    check(5 <= entry.sightings < 100, "and it was so soon after the cancel")


async def deadline(observatory: ObservatoryStub) -> None:
    title("A deadline that passes")
    started = time.perf_counter()
    try:
        await observatory.Observe(
            ObserveRequest(star="Spica", exposure_ms=30_000),
            timeout=0.25,
            metadata=[("observation", "too long")],
        )
    except AioRpcError as error:
        after = time.perf_counter() - started
        print(f"30 s of exposure, 250 ms of patience: {error.code().name} after {after:.2f} s")
        check(error.code() is StatusCode.DEADLINE_EXCEEDED, "the code is DEADLINE_EXCEEDED")
        check(0.2 < after < 5, "the deadline passed when it was due")
    else:
        raise NotSo("an exposure of 30 s does not end within 250 ms")
    entry = await observatory.ReadLogbook(ReadLogbookRequest(observation="too long"), timeout=5)
    print(f"the logbook: {LogEntry.End.Name(entry.end)}")
    check(entry.end == LogEntry.END_STOPPED, "the handler was stopped by the deadline, too")


async def status(observatory: ObservatoryStub) -> None:
    title("An error with a status")
    try:
        await observatory.Observe(ObserveRequest(star="Sirus"))
    except AioRpcError as error:
        suggestion = error.trailing_metadata().get("did-you-mean")
        print(f"{error.code().name}: {error.details()}; did you mean {suggestion}?")
        check(error.code() is StatusCode.NOT_FOUND, "a star that is not there is NOT_FOUND")
        check(suggestion == "Sirius", "the trailing metadata has a suggestion")
    else:
        raise NotSo("there is no star named Sirus")


async def burst(observatory: ObservatoryStub) -> None:
    title(f"{BURST_CALLS} callers, for {BURST_SECONDS:g} seconds")
    latencies: list[float] = []
    started = time.perf_counter()
    end = started + BURST_SECONDS

    async def caller() -> None:
        request = ObserveRequest(star="Rigel")
        before = time.perf_counter()
        while before < end:
            sighting = await observatory.Observe(request)
            after = time.perf_counter()
            latencies.append(after - before)
            before = after
            check(sighting.star == "Rigel", "every answer is the one that was asked for")

    await asyncio.gather(*(caller() for _ in range(BURST_CALLS)))
    elapsed = time.perf_counter() - started
    latencies.sort()
    percentiles = (
        f"{name} {latencies[int(len(latencies) * share)] * 1000:.2f} ms"
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
    )
    print(f"{len(latencies)} calls, {len(latencies) / elapsed:,.0f} a second")
    print(f"latency {', '.join(percentiles)}, longest {latencies[-1] * 1000:.2f} ms")
    check(len(latencies) > BURST_CALLS, "every caller was answered again and again")


async def one_connection(observatory: ObservatoryStub) -> None:
    entry = await observatory.ReadLogbook(ReadLogbookRequest(observation="patrol"))
    print(f"\nAll of this took {entry.connections} connection.")
    check(entry.connections == 1, "the whole evening took one connection")


async def main(address: str) -> None:
    print(f"client on {loop.NAME}, to {address}")
    async with protosocket_rpc.insecure_channel(address) as channel:
        observatory = ObservatoryStub(channel)
        for part in (
            four_kinds,
            out_of_order,
            cancel,
            deadline,
            status,
            burst,
            one_connection,
        ):
            await part(observatory)


if __name__ == "__main__":
    try:
        loop.run(main(sys.argv[1]))
    except NotSo as claim:
        sys.exit(f"\nNot so: {claim}.")
    except AioRpcError as error:
        sys.exit(f"\nA call failed that should not have: {error}")
