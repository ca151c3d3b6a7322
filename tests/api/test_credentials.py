"""TLS, mTLS, certificates that change, local connections, and credentials of calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
from connectivity.service import SERVICE, Servicer, Stub, serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support import Certificates, make_certificates

import protosocket_rpc as ps


@asynccontextmanager
async def secured(
    server_credentials: Any,
    channel_credentials: Any,
    address: str = "127.0.0.1:0",
    options: dict[str, Any] | None = None,
    **handlers: Any,
) -> AsyncIterator[Stub]:
    """A stub on a secure channel to a secure port."""
    server = ps.server()
    server.add(Servicer(**handlers), SERVICE)
    port = server.add_secure_port(address, server_credentials)
    target = f"127.0.0.1:{port}" if port else address
    await server.start()
    try:
        async with ps.secure_channel(target, channel_credentials, **(options or {})) as channel:
            yield Stub(channel)
    finally:
        await server.stop()


def server_pem(certificates: Certificates, **options: Any) -> ps.ServerCredentials:
    pair = (certificates.server_key.read_bytes(), certificates.server_chain.read_bytes())
    return ps.ssl_server_credentials([pair], **options)


def channel_pem(certificates: Certificates, with_certificate: bool = False) -> Any:
    return ps.ssl_channel_credentials(
        certificates.authority.read_bytes(),
        certificates.client_key.read_bytes() if with_certificate else None,
        certificates.client_chain.read_bytes() if with_certificate else None,
    )


async def whoami(request: bytes, context: Any) -> bytes:
    """Everything that a context says about who calls."""
    properties = {
        key: [value.decode() for value in values] for key, values in context.auth_context().items()
    }
    return repr((context.peer_identity_key(), context.peer_identities(), properties)).encode()


async def who(stub: Stub) -> Any:
    return eval(await stub.unary(b""))


async def fails(stub: Stub, **options: Any) -> str:
    with pytest.raises(ps.AioRpcError) as raised:
        await stub.unary(b"", **options)
    assert raised.value.code() is ps.StatusCode.UNAVAILABLE
    return str(raised.value)


# -- TLS -----------------------------------------------------------------------------------


async def test_pem_bytes(certificates: Certificates) -> None:
    async with secured(server_pem(certificates), channel_pem(certificates), Unary=whoami) as stub:
        key, identities, properties = await who(stub)
    assert (key, identities) == (None, None)
    assert properties["transport_security_type"] == ["ssl"]


async def test_ssl_contexts(certificates: Certificates) -> None:
    async with secured(certificates.server_context(), certificates.client_context()) as stub:
        assert await stub.unary(b"x") == b"x"


async def test_pem_bytes_with_a_context(certificates: Certificates) -> None:
    async with secured(server_pem(certificates), certificates.client_context()) as stub:
        assert await stub.unary(b"x") == b"x"


async def test_client_certificates_say_who_calls(certificates: Certificates) -> None:
    server = server_pem(
        certificates,
        root_certificates=certificates.authority.read_bytes(),
        require_client_auth=True,
    )
    async with secured(server, channel_pem(certificates, True), Unary=whoami) as stub:
        key, identities, properties = await who(stub)
    assert key == "x509_subject_alternative_name"
    assert identities == [b"client@example.org"]
    assert properties["x509_common_name"] == ["client"]
    assert properties["x509_pem_cert"][0].startswith("-----BEGIN CERTIFICATE-----")


def of_a_directory(*others: x509.GeneralName) -> tuple[bytes, bytes]:
    """A certificate that speaks for itself, and for a name in a directory, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of a directory")])
    now = datetime.now(timezone.utc)
    # Of digital signatures, by whom it belongs to and by an authority. Python 3.13 insists.
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DirectoryName(name), *others]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


async def test_names_of_a_directory_are_left_out(certificates: Certificates) -> None:
    for others, expected in (
        ((x509.DNSName("client.example"),), ("x509_subject_alternative_name", [b"client.example"])),
        ((), ("x509_common_name", [b"of a directory"])),
    ):
        certificate, key = of_a_directory(*others)
        server = server_pem(certificates, root_certificates=certificate, require_client_auth=True)
        client = ps.ssl_channel_credentials(certificates.authority.read_bytes(), key, certificate)
        async with secured(server, client, Unary=whoami) as stub:
            name, identities, _ = await who(stub)
            assert (name, identities) == expected


async def test_client_without_a_certificate_is_refused(certificates: Certificates) -> None:
    server = server_pem(
        certificates,
        root_certificates=certificates.authority.read_bytes(),
        require_client_auth=True,
    )
    async with secured(server, channel_pem(certificates)) as stub:
        await fails(stub)


async def test_unknown_authority_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    others = make_certificates(tmp_path)
    async with secured(server_pem(others), channel_pem(certificates)) as stub:
        assert "CERTIFICATE_VERIFY_FAILED" in await fails(stub)


async def test_target_name_override(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("elsewhere.example.org")
    pair = (issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())
    server = ps.ssl_server_credentials([pair])
    channel = ps.ssl_channel_credentials(authority.cert_pem.bytes())
    async with secured(server, channel) as stub:
        assert "mismatch" in await fails(stub)
    override = {"options": [("grpc.ssl_target_name_override", "elsewhere.example.org")]}
    async with secured(server, channel, options=override) as stub:
        assert await stub.unary(b"x") == b"x"


async def test_authorities_of_the_environment(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificates.authority))
    async with secured(server_pem(certificates), ps.ssl_channel_credentials()) as stub:
        assert await stub.unary(b"x") == b"x"


def test_system_authorities_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    context = ps.ssl_channel_credentials().ssl
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_keys_leave_no_file_behind(certificates: Certificates, tmp_path: Path) -> None:
    import tempfile

    tempfile.tempdir = str(tmp_path)
    try:
        server_pem(certificates)
    finally:
        tempfile.tempdir = None
    assert list(tmp_path.iterdir()) == []


def test_arguments_that_make_no_sense(certificates: Certificates) -> None:
    key = certificates.client_key.read_bytes()
    with pytest.raises(ValueError, match="belong together"):
        ps.ssl_channel_credentials(private_key=key)
    with pytest.raises(ValueError, match="At least one"):
        ps.ssl_server_credentials([])
    with pytest.raises(ValueError, match="root certificates"):
        server_pem(certificates, require_client_auth=True)
    with pytest.raises(ssl.SSLError):
        ps.ssl_server_credentials([(b"nonsense", b"nonsense")])


# -- ALPN ----------------------------------------------------------------------------------


async def test_server_that_speaks_another_protocol_is_refused(certificates: Certificates) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    for protocols in (["h2"], []):
        context = certificates.server_context()
        if protocols:
            context.set_alpn_protocols(protocols)
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        channel = ps.secure_channel(f"127.0.0.1:{port}", channel_pem(certificates))
        async with channel:
            assert "does not speak protosocket/1" in await fails(Stub(channel))
        server.close()
        await server.wait_closed()


async def test_client_that_speaks_another_protocol_is_refused(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    server = ps.server()
    server.add(Servicer(), SERVICE)
    port = server.add_secure_port("127.0.0.1:0", server_pem(certificates))
    await server.start()
    context = certificates.client_context()
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    assert b"does not speak protosocket/1" in await reader.read()
    writer.close()
    await server.stop()
    assert "does not speak protosocket/1" in caplog.text


async def test_peers_that_know_nothing_of_alpn_can_be_allowed(certificates: Certificates) -> None:
    server = ps.server()
    server.add(Servicer(), SERVICE)
    credentials = ps.ssl_context_server_credentials(certificates.server_context(), any_alpn=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=certificates.client_context()
    )
    assert b"does not speak" not in await reader.read(1000)  # settings
    writer.close()
    await server.stop()


async def test_server_without_alpn_can_be_allowed(certificates: Certificates) -> None:
    from protosocket_rpc.raw import Reactor, serve
    from protosocket_rpc.wire.codec import FrameCodec

    raw = await serve(
        "127.0.0.1:0", lambda: FrameCodec(1000), Reactor, ssl=certificates.server_context()
    )
    credentials = ps.ssl_context_channel_credentials(certificates.client_context(), any_alpn=True)
    async with ps.secure_channel(raw.target, credentials) as channel:
        await channel.channel_ready()
    await raw.stop()


# -- certificates that change --------------------------------------------------------------


def issue(authority: trustme.CA, name: str) -> tuple[bytes, bytes]:
    issued = authority.issue_cert("127.0.0.1", "localhost", common_name=name)
    return issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes()


async def served_name(authority: trustme.CA, port: int) -> str:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["protosocket/1"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    certificate: Any = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    return next(
        value for part in certificate["subject"] for key, value in part if key == "commonName"
    )


async def test_certificates_change_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    authority = trustme.CA()
    answers: list[Any] = []

    def fetch() -> Any:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    credentials = ps.dynamic_ssl_server_credentials(
        ps.ssl_server_certificate_configuration([issue(authority, "first")]), fetch
    )
    server = ps.server()
    server.add(Servicer(), SERVICE)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    channel = ps.secure_channel(
        f"127.0.0.1:{port}", ps.ssl_channel_credentials(authority.cert_pem.bytes())
    )
    async with channel:
        assert await Stub(channel).unary(b"x") == b"x"
        assert await served_name(authority, port) == "first"
        answers.append(ps.ssl_server_certificate_configuration([issue(authority, "second")]))
        assert await served_name(authority, port) == "second"
        assert await served_name(authority, port) == "second"
        answers.append(LookupError("no certificates today"))
        assert await served_name(authority, port) == "second"
        assert "no certificates today" in caplog.text
        answers.append(ps.ssl_server_certificate_configuration([issue(authority, "third")]))
        assert await served_name(authority, port) == "third"
        assert await Stub(channel).unary(b"x") == b"x"  # its connection is as it was
    async with ps.secure_channel(
        f"127.0.0.1:{port}", ps.ssl_channel_credentials(authority.cert_pem.bytes())
    ) as channel:
        assert await Stub(channel).unary(b"x") == b"x"
    await server.stop()


async def test_authorities_for_clients_change_without_a_restart(
    certificates: Certificates, tmp_path: Path
) -> None:
    others = make_certificates(tmp_path)
    pair = (certificates.server_key.read_bytes(), certificates.server_chain.read_bytes())
    first = ps.ssl_server_certificate_configuration([pair], others.authority.read_bytes())
    second = ps.ssl_server_certificate_configuration([pair], certificates.authority.read_bytes())
    answers: list[Any] = [None, second]
    credentials = ps.dynamic_ssl_server_credentials(
        first, lambda: answers.pop(0) if answers else None, True
    )
    server = ps.server()
    server.add(Servicer(Unary=whoami), SERVICE)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    async with ps.secure_channel(f"127.0.0.1:{port}", channel_pem(certificates, True)) as channel:
        await fails(Stub(channel))
        key, identities, _ = eval(await Stub(channel).unary(b"", wait_for_ready=True))
    assert (key, identities) == ("x509_subject_alternative_name", [b"client@example.org"])
    await server.stop()


async def test_context_that_is_loaded_again(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def load(name: str) -> None:
        key, chain = issue(authority, name)
        (tmp_path / "pem").write_bytes(key + chain)
        context.load_cert_chain(tmp_path / "pem")

    load("first")
    server = ps.server()
    port = server.add_secure_port("127.0.0.1:0", context)
    await server.start()
    assert await served_name(authority, port) == "first"
    load("second")
    assert await served_name(authority, port) == "second"
    await server.stop()


# -- local connections ---------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
async def test_unix_socket_says_which_process_calls(socket_dir: Path, abstract: bool) -> None:
    name = socket_dir / "socket"
    address = f"unix-abstract:{name}" if abstract else f"unix:{name}"
    server = ps.server()
    server.add(Servicer(Unary=whoami), SERVICE)
    server.add_insecure_port(address)
    await server.start()
    async with ps.insecure_channel(address) as channel:
        key, identities, properties = await who(Stub(channel))
    await server.stop()
    assert (key, identities) == ("peer_uid", [str(os.getuid()).encode()])
    assert properties["peer_pid"] == [str(os.getpid())]
    assert properties["peer_gid"] == [str(os.getgid())]


@pytest.mark.parametrize("kind", ps.LocalConnectionType)
async def test_local_credentials(kind: ps.LocalConnectionType, socket_dir: Path) -> None:
    uds = kind is ps.LocalConnectionType.UDS
    address = f"unix:{socket_dir / 'socket'}" if uds else "127.0.0.1:0"
    async with secured(
        ps.local_server_credentials(kind), ps.local_channel_credentials(kind), address
    ) as stub:
        assert await stub.unary(b"x") == b"x"


@pytest.mark.parametrize("kind", ps.LocalConnectionType)
async def test_what_stays_in_the_process_is_local(kind: ps.LocalConnectionType) -> None:
    async with secured(
        ps.local_server_credentials(kind),
        ps.local_channel_credentials(kind),
        "memory:local",
        Unary=whoami,
    ) as stub:
        key, identities, properties = await who(stub)
    assert (key, identities) == (None, None)
    assert properties["transport_security_type"] == ["local"]


async def test_local_credentials_refuse_what_is_not_local() -> None:
    """As far as one machine can show: a Unix socket is wanted, and this is none."""
    local = ps.LocalConnectionType.UDS
    async with secured(ps.local_server_credentials(), ps.local_channel_credentials(local)) as stub:
        assert "not on this machine" in await fails(stub)


async def test_a_bundle_may_have_comments_in_any_language(certificates: Certificates) -> None:
    comment = "# Autorité de certification, für alle\n".encode()
    authority = comment + certificates.authority.read_bytes() + comment
    channel = ps.ssl_channel_credentials(
        authority, certificates.client_key.read_bytes(), certificates.client_chain.read_bytes()
    )
    server = server_pem(certificates, root_certificates=authority, require_client_auth=True)
    async with secured(server, channel) as stub:
        assert await stub.unary(b"x") == b"x"


# -- credentials of calls ------------------------------------------------------------------


async def tokens(request: bytes, context: Any) -> bytes:
    return repr([value for key, value in context.invocation_metadata()]).encode()


class Plugin(ps.AuthMetadataPlugin):
    def __init__(self, *pairs: tuple[str, str], error: Exception | None = None) -> None:
        self.pairs = pairs
        self.error = error
        self.asked: list[Any] = []
        self.threads: list[threading.Thread] = []

    def __call__(
        self, context: ps.AuthMetadataContext, callback: ps.AuthMetadataPluginCallback
    ) -> None:
        self.asked.append(context)
        self.threads.append(threading.current_thread())
        callback(self.pairs, self.error)


async def test_access_token_goes_with_every_call(certificates: Certificates) -> None:
    credentials = ps.composite_channel_credentials(
        channel_pem(certificates), ps.access_token_call_credentials("secret")
    )
    async with secured(server_pem(certificates), credentials, Unary=tokens) as stub:
        assert await stub.unary(b"") == b"['Bearer secret']"
        assert await stub.unary(b"", metadata=[("a", "b")]) == b"['b', 'Bearer secret']"


async def test_plugin_is_asked_in_a_thread_for_each_call(certificates: Certificates) -> None:
    plugin = Plugin(("token", "t"))
    credentials = ps.composite_channel_credentials(
        channel_pem(certificates), ps.metadata_call_credentials(plugin, "mine")
    )

    async def count(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await tokens(b"", context) + str(len([each async for each in requests])).encode()

    async def stream() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async with secured(server_pem(certificates), credentials, Unary=tokens, Requests=count) as stub:
        assert await stub.unary(b"") == b"['t']"
        assert await stub.requests(stream()) == b"['t']2"
    context = plugin.asked[0]
    assert context.service_url.startswith("https://127.0.0.1:")
    assert context.service_url.endswith("/test.Service")
    assert [each.method_name for each in plugin.asked] == ["Unary", "Requests"]
    assert threading.current_thread() not in plugin.threads


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("localhost:1", [], "localhost:1"),
        ("dns:///localhost:1", [], "localhost:1"),
        ("dns:///localhost:443", [], "localhost"),
        ("[::1]:443", [], "[::1]"),
        ("ipv4:127.0.0.1:1", [], "127.0.0.1:1"),
        ("127.0.0.1:1", [("grpc.ssl_target_name_override", "name")], "name"),
    ],
)
async def test_the_service_as_a_plugin_is_told_it(
    target: str, options: list[Any], expected: str
) -> None:
    """As grpcio tells it: without a scheme, and without the port that https has."""
    told = asyncio.get_running_loop().create_future()

    async def plugin(context: ps.AuthMetadataContext) -> Any:
        told.set_result(context.service_url)
        await asyncio.Event().wait()

    local = ps.local_channel_credentials()
    async with ps.secure_channel(target, local, options) as channel:
        call = Stub(channel).unary(b"", credentials=ps.metadata_call_credentials(plugin))
        assert await told == f"https://{expected}/test.Service"
        call.cancel()


async def test_plugin_may_be_a_coroutine_function(certificates: Certificates) -> None:
    async def plugin(context: ps.AuthMetadataContext) -> Any:
        await asyncio.sleep(0)
        return [("token", context.method_name)]

    async with secured(server_pem(certificates), channel_pem(certificates), Unary=tokens) as stub:
        credentials = ps.metadata_call_credentials(plugin)
        assert await stub.unary(b"", credentials=credentials) == b"['Unary']"


async def test_credentials_of_channel_and_call_go_together(certificates: Certificates) -> None:
    first = ps.metadata_call_credentials(Plugin(("token", "1")))
    second = ps.access_token_call_credentials("2")
    third = ps.metadata_call_credentials(Plugin(("token", "3")))
    channel = ps.composite_channel_credentials(
        ps.composite_channel_credentials(channel_pem(certificates), first), second
    )
    async with secured(server_pem(certificates), channel, Unary=tokens) as stub:
        received = eval(await stub.unary(b"", credentials=third))
    assert sorted(received) == ["1", "3", "Bearer 2"]


@pytest.mark.parametrize("bad", [LookupError("no token"), ("Upper", "x")])
async def test_plugin_that_fails_fails_the_call(certificates: Certificates, bad: Any) -> None:
    plugin = Plugin(error=bad) if isinstance(bad, Exception) else Plugin(bad)
    async with secured(server_pem(certificates), channel_pem(certificates)) as stub:
        with pytest.raises(ps.AioRpcError) as raised:
            await stub.unary(b"", credentials=ps.metadata_call_credentials(plugin))
    assert raised.value.code() is ps.StatusCode.UNAVAILABLE
    assert str(raised.value.details()).startswith("Getting metadata from plugin failed")
    assert raised.value.__cause__ is not None


class Raises(ps.AuthMetadataPlugin):
    """Says what went wrong in a way that no future can hold."""

    def __init__(self, error: Any) -> None:
        self.error = error

    def __call__(
        self, context: ps.AuthMetadataContext, callback: ps.AuthMetadataPluginCallback
    ) -> None:
        if isinstance(self.error, BaseException):
            raise self.error
        callback((), self.error)


@pytest.mark.parametrize(
    ("error", "text"),
    [("no token", "no token"), (StopIteration(), "StopIteration"), (SystemExit(), "SystemExit")],
)
async def test_plugin_that_fails_oddly_fails_the_call(error: Any, text: str) -> None:
    async with secured(ps.local_server_credentials(), ps.local_channel_credentials()) as stub:
        credentials = ps.metadata_call_credentials(Raises(error))
        assert text in await fails(stub, credentials=credentials)


async def test_plugin_that_is_cancelled_fails_the_call() -> None:
    """Nobody has cancelled the call: its caller is told so by a status."""

    async def plugin(context: ps.AuthMetadataContext) -> Any:
        raise asyncio.CancelledError

    async with secured(ps.local_server_credentials(), ps.local_channel_credentials()) as stub:
        credentials = ps.metadata_call_credentials(plugin)
        assert "CancelledError" in await fails(stub, credentials=credentials)


async def test_plugin_may_have_nothing_to_say() -> None:
    plugin = Plugin()
    plugin.pairs = None  # type: ignore[assignment]  # as gRPC takes it
    async with secured(ps.local_server_credentials(), ps.local_channel_credentials()) as stub:
        credentials = ps.metadata_call_credentials(plugin)
        assert await stub.unary(b"x", credentials=credentials) == b"x"


async def test_a_channel_that_closes_cancels_calls_that_wait_for_credentials() -> None:
    left = asyncio.Event()
    asked = asyncio.Event()

    async def plugin(context: ps.AuthMetadataContext) -> Any:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    channel = ps.secure_channel("127.0.0.1:1", ps.local_channel_credentials())
    call = Stub(channel).unary(b"", credentials=ps.metadata_call_credentials(plugin))
    await asked.wait()
    await channel.close()
    assert left.is_set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is ps.StatusCode.CANCELLED


async def test_a_channel_that_closes_with_grace_lets_them_begin() -> None:
    release, asked = asyncio.Event(), asyncio.Event()

    async def plugin(context: ps.AuthMetadataContext) -> Any:
        asked.set()
        await release.wait()
        return [("token", "t")]

    async with serving(Unary=tokens) as server:
        channel = ps.insecure_channel(server.target, allow_insecure_call_credentials=True)
        call = Stub(channel).unary(b"", credentials=ps.metadata_call_credentials(plugin))
        await asked.wait()
        closing = asyncio.ensure_future(channel.close(30))
        await asyncio.sleep(0)
        release.set()
        await closing
        assert await call == b"['t']"


async def test_the_connection_of_a_call_with_credentials_can_be_waited_for() -> None:
    release = asyncio.Event()

    async def reply(request: bytes, context: Any) -> bytes:
        await release.wait()
        return b"y"

    local = ps.local_server_credentials(), ps.local_channel_credentials()
    async with secured(*local, Unary=reply) as stub:
        ready = stub.unary(b"")
        await ready.wait_for_connection()
        call = stub.unary(b"", credentials=ps.metadata_call_credentials(Plugin(("token", "t"))))
        await call.wait_for_connection()
        release.set()
        assert [await ready, await call] == [b"y", b"y"]


async def test_plugin_that_never_answers_ends_with_the_deadline(certificates: Certificates) -> None:
    class Silent(ps.AuthMetadataPlugin):
        def __call__(self, context: Any, callback: Any) -> None:
            pass

    credentials = ps.metadata_call_credentials(Silent())
    async with secured(server_pem(certificates), channel_pem(certificates)) as stub:
        call = stub.unary(b"", credentials=credentials, timeout=0.05)
        assert await call.code() is ps.StatusCode.DEADLINE_EXCEEDED
        call = stub.unary(b"", credentials=credentials)
        assert call.cancel()
        assert await call.code() is ps.StatusCode.CANCELLED


async def test_credentials_are_not_sent_over_an_insecure_channel() -> None:
    server = ps.server()
    server.add(Servicer(Unary=tokens), SERVICE)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    plugin = Plugin(("token", "t"))
    for credentials in (
        ps.access_token_call_credentials("secret"),
        ps.metadata_call_credentials(plugin),
    ):
        async with ps.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(ps.AioRpcError) as raised:
                await Stub(channel).unary(b"", credentials=credentials)
            assert raised.value.code() is ps.StatusCode.UNAUTHENTICATED
            assert "sufficient security level" in str(raised.value.details())
            assert not plugin.asked
            assert await Stub(channel).requests(iter([b"x"])) == b"x"
            call = Stub(channel).requests(iter([b"x"]), credentials=credentials)
            assert await call.code() is ps.StatusCode.UNAUTHENTICATED
    async with ps.insecure_channel(
        f"127.0.0.1:{port}", allow_insecure_call_credentials=True
    ) as channel:
        call = Stub(channel).unary(b"", credentials=ps.access_token_call_credentials("secret"))
        assert await call == b"['Bearer secret']"
    await server.stop()


async def test_credentials_may_stay_on_this_machine() -> None:
    async with secured(
        ps.local_server_credentials(), ps.local_channel_credentials(), Unary=tokens
    ) as stub:
        credentials = ps.access_token_call_credentials("secret")
        assert await stub.unary(b"", credentials=credentials) == b"['Bearer secret']"


async def test_secrets_stay_out_of_texts(certificates: Certificates) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        await context.abort(ps.StatusCode.NOT_FOUND, "")
        return b""

    credentials = ps.composite_channel_credentials(
        channel_pem(certificates), ps.access_token_call_credentials("secret")
    )
    async with secured(server_pem(certificates), credentials, Unary=fail) as stub:
        call = stub.unary(b"")
        with pytest.raises(ps.AioRpcError) as raised:
            await call
    for text in (repr(raised.value), str(raised.value), repr(call), repr(credentials)):
        assert "secret" not in text


def test_composites_need_something() -> None:
    with pytest.raises(ValueError, match="needs credentials"):
        ps.composite_call_credentials()
