"""A pipeline: both sides stream at will, and neither waits for an answer of the other.

    $ python -m examples.raw.pipeline 127.0.0.1:7000

Sensors stream readings. The station streams back the mean of every hundred, and, whenever it likes,
a calibration that applies to the readings from then on. Each side is stopped by the other's pace
alone: `drain` in a coroutine (the sensor), `on_writable` in a reactor (the station).
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable

from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import DoubleValue

from protosocket_rpc.raw import CodecPair, Connection, Reactor, connect, serve
from protosocket_rpc.raw.codecs import ProtobufCodec

BATCH = 100
CALIBRATIONS = 5


class Station(Reactor[DoubleValue, Struct]):
    """Takes readings and sends what it makes of them; what cannot leave yet waits in order."""

    def on_open(self, connection: Connection[DoubleValue, Struct]) -> None:
        self.connection = connection
        self.batch: list[float] = []
        self.results: deque[Struct] = deque()
        for step in range(CALIBRATIONS):  # of its own accord: nobody has sent anything yet
            self.emit("calibration", step / CALIBRATIONS)

    def on_message(self, message: DoubleValue) -> None:
        self.batch.append(message.value)
        if len(self.batch) == BATCH:
            self.emit("mean", sum(self.batch) / BATCH)
            self.batch.clear()

    def emit(self, kind: str, value: float) -> None:
        result = Struct()
        result[kind] = value
        self.results.append(result)
        self.on_writable()

    def on_writable(self) -> None:
        while self.results and self.connection.writable:
            self.connection.send(self.results.popleft())


class Sensor(Reactor[Struct, DoubleValue]):
    """Streams readings, and gathers what the station streams meanwhile."""

    def on_open(self, connection: Connection[Struct, DoubleValue]) -> None:
        self.connection = connection
        self.means: asyncio.Queue[float] = asyncio.Queue()
        self.calibrations: list[float] = []

    def on_message(self, message: Struct) -> None:
        for kind, value in message.fields.items():
            if kind == "mean":
                self.means.put_nowait(value.number_value)
            else:
                self.calibrations.append(value.number_value)

    async def stream(self, readings: Iterable[float]) -> None:
        for reading in readings:
            self.connection.send(DoubleValue(value=reading))
            await self.connection.drain()


async def connect_sensor(target: str) -> Sensor:
    sensor = Sensor()
    await connect(target, ProtobufCodec(Struct), sensor)
    return sensor


def station_codec() -> CodecPair[DoubleValue, Struct]:
    return CodecPair(ProtobufCodec(DoubleValue), ProtobufCodec(Struct))


async def main(target: str) -> None:
    async with await serve(target, station_codec, Station) as server:
        print(f"serving on {server.target}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
