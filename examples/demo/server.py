"""The observatory: serves until it is told to stop (SIGTERM or Ctrl-C).

python -m examples.demo.server [ADDRESS]
"""

from __future__ import annotations

import asyncio
import difflib
import math
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import protosocket_rpc
from protosocket_rpc import ServicerContext, StatusCode

from . import loop
from .generated.observatory_pb2 import (
    Correction,
    Drift,
    Exposure,
    LogEntry,
    ObserveRequest,
    Picture,
    ReadLogbookRequest,
    Sighting,
    SurveyRequest,
)
from .generated.observatory_protosocket import ObservatoryServicer

# Apparent magnitudes: the smaller, the brighter.
CATALOGUE = {
    "Sirius": -1.46,
    "Canopus": -0.74,
    "Arcturus": -0.05,
    "Vega": 0.03,
    "Capella": 0.08,
    "Rigel": 0.13,
    "Procyon": 0.34,
    "Achernar": 0.46,
    "Altair": 0.76,
    "Aldebaran": 0.86,
    "Spica": 0.97,
    "Antares": 1.06,
    "Pollux": 1.14,
    "Fomalhaut": 1.16,
    "Deneb": 1.25,
    "Regulus": 1.39,
}

PATROL_PAUSE = 0.01  # seconds between two sightings
DAMPING = 0.5  # corrections of half the drift keep the mount from swinging

Context = ServicerContext[Any, Any]


class Observatory(ObservatoryServicer):
    """The service. Each call runs by itself: a long exposure keeps nobody else waiting."""

    def __init__(self) -> None:
        self._peers: set[str] = set()
        self._logbook: dict[str, asyncio.Future[LogEntry]] = {}

    async def Observe(self, request: ObserveRequest, context: Context) -> Sighting:
        self._peers.add(context.peer())
        magnitude = CATALOGUE.get(request.star)
        if magnitude is None:
            similar = difflib.get_close_matches(request.star, CATALOGUE)
            await context.abort(
                StatusCode.NOT_FOUND,
                f"no star named {request.star!r} in the catalogue",
                trailing_metadata=[("did-you-mean", star) for star in similar],
            )
        if request.exposure_ms:
            with self._logged(context) as entry:
                await asyncio.sleep(request.exposure_ms / 1000)
                entry.sightings = 1
        return sighting(request.star, request.exposure_ms)

    async def Survey(self, request: SurveyRequest, context: Context) -> AsyncIterator[Sighting]:
        self._peers.add(context.peer())
        stars = [star for star in CATALOGUE if CATALOGUE[star] <= request.faintest]
        with self._logged(context) as entry:
            while True:
                for star in stars:
                    yield sighting(star, exposure_ms=1)
                    entry.sightings += 1
                    if request.patrol:
                        await asyncio.sleep(PATROL_PAUSE)
                if not request.patrol:
                    return

    async def Stack(self, request_iterator: AsyncIterator[Exposure], context: Context) -> Picture:
        self._peers.add(context.peer())
        picture = Picture()
        async for exposure in request_iterator:
            picture.exposures += 1
            picture.photons += exposure.photons
        picture.signal_to_noise = math.sqrt(picture.photons)
        return picture

    async def Guide(
        self, request_iterator: AsyncIterator[Drift], context: Context
    ) -> AsyncIterator[Correction]:
        self._peers.add(context.peer())
        async for drift in request_iterator:
            yield Correction(arcseconds=-drift.arcseconds * DAMPING)

    async def ReadLogbook(self, request: ReadLogbookRequest, context: Context) -> LogEntry:
        self._peers.add(context.peer())
        entry = self._logbook.get(request.observation)
        if entry is None:
            await context.abort(StatusCode.NOT_FOUND, f"no observation {request.observation!r}")
        # shield(): a reader that leaves takes nothing away from the others.
        reply = LogEntry()
        reply.CopyFrom(await asyncio.shield(entry))
        reply.connections = len(self._peers)
        return reply

    @contextmanager
    def _logged(self, context: Context) -> Iterator[LogEntry]:
        """Write how an observation ends under the name that it brings in its metadata."""
        entry = LogEntry()
        end: asyncio.Future[LogEntry] = asyncio.get_running_loop().create_future()
        name = context.invocation_metadata().get("observation")
        if name:
            self._logbook[name] = end
        try:
            yield entry
            entry.end = LogEntry.END_COMPLETE
        finally:
            # Also when the handler is cancelled: it ends where it waits, and leaves through here.
            entry.end = entry.end or LogEntry.END_STOPPED
            end.set_result(entry)


def sighting(star: str, exposure_ms: int) -> Sighting:
    """What the camera counts: five magnitudes are a factor of a hundred."""
    magnitude = CATALOGUE[star]
    photons = round(1000 * exposure_ms * 100 ** (-magnitude / 5))
    return Sighting(star=star, magnitude=magnitude, photons=photons)


async def main(address: str) -> None:
    server = protosocket_rpc.server()
    server.add(Observatory())
    port = server.add_insecure_port(address)
    await server.start()
    print(f"serving on port {port} ({loop.NAME})", flush=True)
    await server.serve_forever(grace=5)


if __name__ == "__main__":
    loop.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"))
