"""connect() and serve(): addresses, TLS, the end of a server, and what is logged."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from raw.reactors import Echo
from support import Certificates, RawPeer, Recorder, connected, listening, wait_until

from protosocket_rpc.errors import ConnectionClosed
from protosocket_rpc.raw import (
    Address,
    Binding,
    Limits,
    accepting,
    bind,
    connect,
    parse_address,
    serve,
)
from protosocket_rpc.raw.codecs import ByteLineCodec, LineCodec


class TestAddresses:
    @pytest.mark.parametrize(
        ("target", "address"),
        [
            ("localhost:80", Address("localhost", 80)),
            ("127.0.0.1:0", Address("127.0.0.1", 0)),
            ("[::1]:80", Address("::1", 80)),
            (":80", Address("", 80)),
            ("dns:///example.org:443", Address("example.org", 443)),
            ("ipv6:%5B::1%5D:443", Address("::1", 443)),
            ("ipv6:[fe80::1%25eth0]:443", Address("fe80::1%eth0", 443)),
            ("dns:example.org:443", Address("example.org", 443)),
            ("ipv4:1.2.3.4:5", Address("1.2.3.4", 5)),
            ("ipv6:[::1]:5", Address("::1", 5)),
            ("unix:relative/path", Address(path="relative/path")),
            ("unix:/absolute", Address(path="/absolute")),
            ("unix:///absolute", Address(path="/absolute")),
            ("unix-abstract:name", Address(path="\0name")),
            ("memory:name, of any kind", Address(memory="name, of any kind")),
        ],
    )
    def test_forms(self, target: str, address: Address) -> None:
        assert parse_address(target) == address
        assert parse_address(str(address)) == address

    @pytest.mark.parametrize(
        "target",
        [
            "",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "::1:80",
            "unix:",
            "memory:",
            "dns://8.8.8.8/example.org:443",
            "dns://example.org:443",
        ],
    )
    def test_what_has_no_form_is_refused(self, target: str) -> None:
        with pytest.raises(ValueError, match="target"):
            parse_address(target)


class TestBinding:
    def test_the_system_chooses_a_port(self) -> None:
        binding = bind("127.0.0.1:0")
        assert binding.address.port > 0
        binding.close()

    def test_a_name_with_several_addresses_has_one_port(self) -> None:
        binding = bind("localhost:0")
        assert {sock.getsockname()[1] for sock in binding.sockets} == {binding.address.port}
        binding.close()

    async def test_a_port_that_is_taken_is_an_error(self) -> None:
        async with await serve("127.0.0.1:0", ByteLineCodec, Recorder) as server:
            with pytest.raises(OSError, match="in use"):
                bind(server.target)
            with pytest.raises(OSError, match="in use"):
                await serve(server.target, ByteLineCodec, Recorder)

    def test_a_port_can_be_shared_by_those_who_say_so(self) -> None:
        first = bind("127.0.0.1:0", reuse_port=True)
        second = bind(str(first.address), reuse_port=True)
        first.close()
        second.close()

    def test_a_stale_unix_socket_is_replaced(self, socket_dir: Path) -> None:
        path = socket_dir / "socket"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
        assert path.exists()  # nobody listens on it any more
        binding = bind(f"unix:{path}")
        binding.close()
        assert not path.exists()

    async def test_a_unix_socket_in_use_is_an_error(self, socket_dir: Path) -> None:
        target = f"unix:{socket_dir / 'socket'}"
        async with await serve(target, ByteLineCodec, Recorder):
            with pytest.raises(OSError, match="in use"):
                bind(target)

    def test_another_file_is_left_alone(self, socket_dir: Path) -> None:
        path = socket_dir / "file"
        path.write_text("precious")
        with pytest.raises(OSError, match="in use"):
            bind(f"unix:{path}")
        assert path.read_text() == "precious"

    async def test_a_unix_socket_taken_over_by_another_server_is_left_alone(
        self, socket_dir: Path
    ) -> None:
        path = socket_dir / "socket"
        first = await serve(f"unix:{path}", ByteLineCodec, Recorder)
        path.unlink()
        second = await serve(f"unix:{path}", ByteLineCodec, Recorder)
        await first.stop()
        assert path.exists()
        await second.stop()
        assert not path.exists()


class TestConnecting:
    async def test_every_kind_of_address(
        self, target: str, certificates: Certificates, tls: bool
    ) -> None:
        if tls and target.startswith("memory:"):  # that there is none: test_memory.py
            return
        async with connected(target, server=Echo, certificates=certificates if tls else None) as (
            client,
            _,
        ):
            client.connection.send(b"message")
            assert await client.received(1) == [b"message"]
            assert (client.connection.get_extra_info("ssl_object") is not None) == tls

    async def test_every_address_of_the_machine(self) -> None:
        async with listening("[::]:0", reactor=Echo) as (server, _):
            for host in ("127.0.0.1", "[::1]", "localhost"):
                client = Recorder()
                connection = await connect(f"{host}:{server.address.port}", ByteLineCodec(), client)
                connection.send(b"message")
                await client.received(1)
                connection.close()
                await connection.wait_closed()

    async def test_small_messages_do_not_wait_for_others(self) -> None:
        """TCP_NODELAY is set on both ends."""
        async with connected() as (client, server):
            for reactor in (client, server):
                sock = reactor.connection.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    async def test_a_bound_address_can_be_served(self) -> None:
        binding = bind("127.0.0.1:0")
        assert isinstance(binding, Binding)
        async with await serve(binding, ByteLineCodec, Echo) as server:
            assert server.address == binding.address
            client = Recorder()
            connection = await connect(server.target, ByteLineCodec(), client)
            connection.send(b"message")
            await client.received(1)
            connection.close()
            await connection.wait_closed()

    async def test_nobody_listens(self) -> None:
        binding = bind("127.0.0.1:0")
        client = Recorder()
        with pytest.raises(ConnectionRefusedError) as raised:
            await connect(str(binding.address), ByteLineCodec(), client)
        assert raised.value.errno == errno.ECONNREFUSED
        assert f"cannot connect to {binding.address}: " in str(raised.value)
        assert client.events == []
        binding.close()

    async def test_there_is_no_such_unix_socket(self, socket_dir: Path) -> None:
        target = f"unix:{socket_dir / 'socket'}"
        with pytest.raises(FileNotFoundError, match=f"cannot connect to {target}: No such file"):
            await connect(target, ByteLineCodec(), Recorder())

    async def test_there_is_no_such_host(self) -> None:
        with pytest.raises(socket.gaierror, match=r"cannot connect to no such host\.invalid:1: "):
            await connect("no such host.invalid:1", ByteLineCodec(), Recorder())

    async def test_a_connect_that_is_cancelled_leaves_nothing(self) -> None:
        with socket.socket() as sock:  # which accepts nobody
            sock.bind(("127.0.0.1", 0))
            sock.listen(0)
            target = "{}:{}".format(*sock.getsockname())
            context = ssl.create_default_context()
            client = Recorder()
            task = asyncio.ensure_future(connect(target, ByteLineCodec(), client, ssl=context))
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.events == []


class TestTls:
    async def test_client_certificates(self, certificates: Certificates) -> None:
        context = certificates.server_context(client_certificates=True)
        async with listening(ssl=context) as (server, reactors):
            connection = await connect(
                server.target,
                ByteLineCodec(),
                Recorder(),
                ssl=certificates.client_context(with_certificate=True),
            )
            await wait_until(lambda: reactors and reactors[0].events)
            certificate = reactors[0].connection.get_extra_info("peercert")
            assert ("email", "client@example.org") in certificate["subjectAltName"]
            connection.close()
            await connection.wait_closed()

    async def test_a_server_that_cannot_be_trusted(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with listening(ssl=certificates.server_context()) as (server, reactors):
            client = Recorder()
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(
                    server.target, ByteLineCodec(), client, ssl=ssl.create_default_context()
                )
            assert client.events == []
            await wait_until(lambda: caplog.records)
        (record,) = caplog.records
        assert (record.name, record.levelname) == ("protosocket_rpc.raw", "WARNING")
        assert record.getMessage().startswith("no TLS with ('127.0.0.1', ")
        assert reactors == [] or reactors[0].events == []

    async def test_a_server_of_another_name(self, certificates: Certificates) -> None:
        async with listening(ssl=certificates.server_context()) as (server, _):
            with pytest.raises(ssl.SSLCertVerificationError, match=r"example\.org"):
                await connect(
                    server.target,
                    ByteLineCodec(),
                    Recorder(),
                    ssl=certificates.client_context(),
                    server_hostname="example.org",
                )

    async def test_a_client_without_the_certificate_it_needs(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        context = certificates.server_context(client_certificates=True)
        async with listening(ssl=context) as (server, _):
            client = Recorder()
            # With TLS 1.3, the client's own part has ended well before it hears of it; and asyncio
            # does not send the alert that would tell it why.
            await connect(server.target, ByteLineCodec(), client, ssl=certificates.client_context())
            await client.closed()
            await wait_until(lambda: len(caplog.records) == 1)
        assert "peer did not return a certificate" in caplog.text.lower()

    @pytest.mark.parametrize(
        "data", [b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100], ids=["http", "zeros"]
    )
    async def test_a_client_that_does_not_speak_tls(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture, data: bytes
    ) -> None:
        async with listening(ssl=certificates.server_context(), reactor=Echo) as (server, _):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(data)
                await peer.read_all()
            await wait_until(lambda: caplog.records)
            # It has harmed nobody.
            client = Recorder()
            connection = await connect(
                server.target, ByteLineCodec(), client, ssl=certificates.client_context()
            )
            connection.send(b"message")
            await client.received(1)
            connection.close()
            await connection.wait_closed()
        (record,) = caplog.records
        assert "no TLS with" in record.getMessage()

    async def test_a_client_that_goes_during_the_handshake(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with listening(ssl=certificates.server_context()) as (server, _):
            with await RawPeer.connect(server.target):
                pass
            await wait_until(lambda: caplog.records)
        assert "no TLS with" in caplog.text

    async def test_a_client_that_says_nothing(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with listening(ssl=certificates.server_context(), ssl_handshake_timeout=0.01) as (
            server,
            _,
        ):
            with await RawPeer.connect(server.target) as peer:
                assert await peer.read_all() == b""
            await wait_until(lambda: caplog.records)
        assert "no TLS with" in caplog.text

    async def test_a_handshake_does_not_hold_up_the_end(self, certificates: Certificates) -> None:
        async with listening(ssl=certificates.server_context(), ssl_handshake_timeout=600.0) as (
            server,
            reactors,
        ):
            with await RawPeer.connect(server.target) as peer:
                await wait_until(lambda: reactors)
                await server.stop()
                assert await peer.read_all() == b""

    async def test_a_handshake_begun_before_the_last_call_is_finished(
        self, certificates: Certificates
    ) -> None:
        async with listening(ssl=certificates.server_context()) as (server, reactors):
            client = Recorder()
            connecting = asyncio.ensure_future(
                connect(server.target, ByteLineCodec(), client, ssl=certificates.client_context())
            )
            await wait_until(lambda: reactors)
            assert len(server.connections) == 0
            await server.close_behind()
            assert len(server.connections) == 1
            connection = await connecting
            connection.close()
            await connection.wait_closed()

    async def test_the_system_cannot_accept_for_a_while(
        self,
        certificates: Certificates,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(accepting, "_PAUSE", 0.1)
        original = socket.socket.accept
        spare = False

        def accept(sock: socket.socket) -> Any:
            if not spare:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return original(sock)

        async with listening(ssl=certificates.server_context(), reactor=Echo) as (server, _):
            monkeypatch.setattr(socket.socket, "accept", accept)
            client = Recorder()
            connecting = asyncio.ensure_future(
                connect(server.target, ByteLineCodec(), client, ssl=certificates.client_context())
            )
            await wait_until(lambda: caplog.records)
            for _ in range(50):  # it pauses: other turns of the loop are for others
                await asyncio.sleep(0)
            (record,) = caplog.records
            spare = True
            connection = await connecting
            connection.send(b"message")
            await client.received(1)
            connection.close()
            await connection.wait_closed()
        assert record.levelname == "ERROR"
        assert record.getMessage() == ("cannot accept connections: [Errno 24] Too many open files")


class TestStopping:
    async def test_every_connection_is_closed(self, certificates: Certificates, tls: bool) -> None:
        async with connected(certificates=certificates if tls else None) as (client, server):
            other = Recorder()
        assert await client.closed() is None
        assert await server.closed() is None
        assert other.events == []

    async def test_what_is_queued_is_sent(self) -> None:
        server = await serve("127.0.0.1:0", ByteLineCodec, Echo)
        with await RawPeer.connect(server.target) as peer:
            await peer.send(b"question\n")
            await wait_until(lambda: len(server.connections))
            (connection,) = server.connections
            assert await peer.read() == b"question\n"
            for _ in range(1000):
                connection.write(b"x" * 10_000)
            stopping = asyncio.ensure_future(server.stop())
            assert len(await peer.read_all()) == 10_000_000
            await stopping
        assert len(server.connections) == 0

    async def test_a_peer_that_does_not_read_has_the_grace(self) -> None:
        async with listening() as (server, reactors):
            with await RawPeer.connect(server.target):
                await wait_until(lambda: reactors and reactors[0].events)
                while reactors[0].connection.writable:
                    reactors[0].connection.send(b"x" * 10_000)
                await server.stop(grace=0.01)
            cause = await reactors[0].closed()
            assert isinstance(cause, ConnectionClosed)
            assert str(cause) == "the server stopped; its peer did not read"

    async def test_nobody_can_connect_any_more(self, target: str) -> None:
        server = await serve(target, ByteLineCodec, Recorder)
        await server.stop()
        with pytest.raises(OSError, match="cannot connect"):
            await connect(server.target, ByteLineCodec(), Recorder())
        await server.stop()  # again is nothing

    async def test_closing_leaves_connections_open(self) -> None:
        async with listening(reactor=Echo) as (server, _):
            client = Recorder()
            connection = await connect(server.target, ByteLineCodec(), client)
            server.close()
            with pytest.raises(ConnectionRefusedError):
                await connect(server.target, ByteLineCodec(), Recorder())
            connection.send(b"message")
            assert await client.received(1) == [b"message"]
            connection.close()
            await connection.wait_closed()

    @pytest.mark.parametrize("turns", range(6))
    async def test_a_connection_that_opens_meanwhile_is_closed_too(
        self, turns: int, certificates: Certificates, tls: bool
    ) -> None:
        """Whatever point of accepting it has come to."""
        context = certificates.server_context() if tls else None
        async with listening(ssl=context) as (server, reactors):
            with await RawPeer.connect(server.target) as peer:
                for _ in range(turns):
                    await asyncio.sleep(0)
                await server.stop()
                assert await peer.read_all() == b""
            for reactor in reactors:
                assert reactor.events in ([], ["open", "close"])

    async def test_a_connection_that_opens_after_all_were_closed_is_closed(self) -> None:
        async with listening() as (server, reactors):
            server.connections.close()  # the first half of stop(): it still accepts
            with await RawPeer.connect(server.target) as peer:
                assert await peer.read_all() == b""
            assert await reactors[0].closed() is None

    async def test_the_last_call_is_for_those_who_have_connected(self) -> None:
        async with listening(reactor=Echo) as (server, reactors):
            peers = [await RawPeer.connect(server.target) for _ in range(5)]
            await server.close_behind()
            await wait_until(lambda: len(reactors) == 5)
            for peer in peers:
                await peer.send(b"question\n")
                assert await peer.read() == b"question\n"
                peer.close()


class TestLogging:
    """What goes wrong with a connection is said once, and nothing is said of what goes right."""

    async def only_record(self, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
        await wait_until(lambda: caplog.records)
        (record,) = caplog.records
        assert record.name == "protosocket_rpc.raw"
        return record

    async def test_bytes_that_cannot_be_decoded(self, caplog: pytest.LogCaptureFixture) -> None:
        async with listening(codec=LineCodec) as (server, _):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"\xff\n")
                name = "ipv4:{}:{}".format(*peer.socket.getsockname())
                await peer.read_all()
            record = await self.only_record(caplog)
        assert record.levelname == "WARNING"
        assert record.getMessage() == (
            f"closed the connection with {name}: a line is not utf-8: invalid start byte"
        )

    async def test_a_peer_that_vanishes(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        async with listening() as (server, reactors):
            peer = await RawPeer.connect(server.target)
            await peer.send(b"half")
            await wait_until(lambda: reactors and reactors[0].events)
            peer.reset()
            record = await self.only_record(caplog)
        assert record.levelname == "INFO"
        assert record.getMessage().startswith("lost the connection with ")

    async def test_a_defect_of_the_reactor(self, caplog: pytest.LogCaptureFixture) -> None:
        class Defective(Recorder):
            def on_message(self, message: Any) -> None:
                raise KeyError("a defect")

        async with listening(reactor=Defective) as (server, _):
            with await RawPeer.connect(server.target) as peer:
                await peer.send(b"message\n")
                assert await peer.read_all() == b""  # nothing of it leaks to the peer
            record = await self.only_record(caplog)
        assert record.levelname == "ERROR"
        assert "on_message" in caplog.text  # a traceback
        assert "KeyError: 'a defect'" in caplog.text

    async def test_a_codec_that_cannot_be_made(self, caplog: pytest.LogCaptureFixture) -> None:
        def make() -> ByteLineCodec:
            raise KeyError("a defect")

        async with listening(codec=make) as (server, _):
            with await RawPeer.connect(server.target) as peer:
                assert await peer.read_all() == b""
            record = await self.only_record(caplog)
        assert record.levelname == "ERROR"
        assert "its codec or its reactor cannot be made" in record.getMessage()

    async def test_a_client_says_so_too(self, caplog: pytest.LogCaptureFixture) -> None:
        async with connected(codec=LineCodec, client_limits=Limits()) as (client, server):
            server.connection.write(b"\xff\n")
            await client.closed()
            record = await self.only_record(caplog)
        assert record.getMessage().startswith("closed the connection with ipv4:127.0.0.1:")

    async def test_a_reactor_may_do_so_itself(self, caplog: pytest.LogCaptureFixture) -> None:
        async with listening(codec=LineCodec, log_ends=False) as (server, reactors):
            client = Recorder()
            connection = await connect(server.target, LineCodec(), client, log_ends=False)
            connection.write(b"\xff\n")
            await client.closed()
            await reactors[0].closed()
        assert caplog.records == []

    async def test_nothing_is_said_of_an_end_in_good_order(
        self, caplog: pytest.LogCaptureFixture, certificates: Certificates, tls: bool
    ) -> None:
        caplog.set_level(logging.INFO)
        async with connected(certificates=certificates if tls else None) as (client, _):
            client.connection.send(b"message")
        assert [r.getMessage() for r in caplog.records if r.name != "asyncio"] == []
