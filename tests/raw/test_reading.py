"""Reading that is paused."""

from __future__ import annotations

from typing import Any

from support import Certificates, RawPeer, Recorder, connected, listening, wait_until


class TestReading:
    async def test_nothing_arrives_while_paused(
        self, certificates: Certificates, tls: bool
    ) -> None:
        async with connected(certificates=certificates if tls else None) as (client, server):
            server.connection.pause_reading()
            client.connection.send(b"message")
            client.connection.flush()
            # A second connection's whole life says that there was time enough.
            async with connected() as (other, another):
                other.connection.send(b"message")
                await another.received(1)
            assert server.messages == []
            server.connection.resume_reading()
            assert await server.received(1) == [b"message"]

    async def test_pausing_stops_the_peer(self) -> None:
        async with connected() as (client, server):
            server.connection.pause_reading()
            while client.connection.writable:
                client.connection.send(b"x" * 10_000)
            assert server.messages == []
            server.connection.resume_reading()
            await client.connection.drain()

    async def test_pausing_outlasts_a_stall(self) -> None:
        """What the user paused is not resumed by output that flows again."""
        async with listening() as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                await wait_until(lambda: reactors and reactors[0].events)
                connection = reactors[0].connection
                connection.pause_reading()
                while connection.writable:
                    connection.send(b"x" * 10_000)
                await peer.send(b"message\n")
                while not connection.writable:
                    await peer.read()
                async with connected() as (other, another):
                    other.connection.send(b"message")
                    await another.received(1)
                assert reactors[0].messages == []
                connection.resume_reading()
                await reactors[0].received(1)
                connection.abort(RuntimeError())

    async def test_pausing_within_a_callback(self) -> None:
        class Pauses(Recorder):
            def on_message(self, message: Any) -> None:
                super().on_message(message)
                self.connection.pause_reading()

        async with connected(server=Pauses) as (client, server):
            for i in range(3):
                client.connection.send(b"%d" % i)
                assert await server.received(1) == [b"%d" % i]
                server.connection.resume_reading()
