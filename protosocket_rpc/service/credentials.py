"""Credentials of channels and servers: TLS from PEM bytes or an SSLContext, or local connections.

gRPC's functions, with gRPC's arguments. Where one of them is asked for, an `ssl.SSLContext` will
do as well; one that the caller made has its ALPN set, so it should serve nothing else.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from protosocket_rpc.errors import PeerRefused
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.service.call_credentials import (
    CallCredentials,
    composite_call_credentials,
)

_log = logging.getLogger("protosocket_rpc.tls")

ALPN: Final = "protosocket/1"

# As in gRPC: a file with the authorities to trust, instead of the system's.
_ROOTS_VARIABLE: Final = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"

KeyAndChain = tuple[bytes, bytes]


class LocalConnectionType(Enum):
    """Kinds of connections within one machine."""

    UDS = "unix domain socket"
    LOCAL_TCP = "local tcp"


class _Security:
    """How connections are secured.

    Attributes:
        ssl: to speak TLS with; None for none.
    """

    def __init__(
        self, context: ssl.SSLContext | None, local: LocalConnectionType | None, any_alpn: bool
    ) -> None:
        self.ssl: Final = context
        self._local: Final = local
        self._any_alpn: Final = any_alpn
        if context is not None:
            context.set_alpn_protocols([ALPN])

    def check(self, connection: Connection[Any, Any]) -> None:
        """Refuse a connection that is not what it has to be.

        Raises:
            PeerRefused: it speaks another protocol, or is not local.
        """
        tls = connection.get_extra_info("ssl_object")
        if tls is not None and not self._any_alpn and tls.selected_alpn_protocol() != ALPN:
            raise PeerRefused(
                f"the peer does not speak {ALPN}: in the TLS handshake (ALPN) it agreed to "
                f"{tls.selected_alpn_protocol() or 'no protocol'}"
            )
        if self._local is not None and not _is_local(connection, self._local):
            raise PeerRefused(f"the peer is not on this machine ({self._local.value})")


class ChannelCredentials(_Security):
    """What a channel secures its connections and its calls with. Made by the functions here.

    Attributes:
        call: what goes with every call; None for nothing.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        local: LocalConnectionType | None = None,
        call: CallCredentials | None = None,
        any_alpn: bool = False,
    ) -> None:
        super().__init__(context, local, any_alpn)
        self.call: Final = call

    @property
    def secure(self) -> bool:
        """True if secrets may be sent: the connection is encrypted, or stays on this machine."""
        return self.ssl is not None or self._local is not None

    def with_call(self, call: CallCredentials) -> ChannelCredentials:
        """The same, with credentials for each call."""
        return ChannelCredentials(self.ssl, self._local, call, self._any_alpn)


class ServerCredentials(_Security):
    """What a server secures the connections of a port with. Made by the functions here."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        local: LocalConnectionType | None = None,
        any_alpn: bool = False,
    ) -> None:
        super().__init__(context, local, any_alpn)


class ServerCertificateConfiguration:
    """The certificates of a server. Made by `ssl_server_certificate_configuration`."""

    def __init__(self, pairs: Sequence[KeyAndChain], roots: bytes | None) -> None:
        self.pairs: Final = list(pairs)
        self.roots: Final = roots


def _is_local(connection: Connection[Any, Any], kind: LocalConnectionType) -> bool:
    if connection.get_extra_info("memory") is not None:
        return True
    sock = connection.get_extra_info("socket")
    if sock is None:
        return False
    if kind is LocalConnectionType.UDS or sock.family == socket.AF_UNIX:
        return bool(sock.family == socket.AF_UNIX)
    return ipaddress.ip_address(connection.get_extra_info("peername")[0]).is_loopback


# -- contexts ------------------------------------------------------------------------------


def _load_pairs(context: ssl.SSLContext, pairs: Iterable[KeyAndChain]) -> None:
    """Load keys and certificates, which the ssl module takes from files alone."""
    with TemporaryDirectory() as directory:  # of mode 0700
        file = Path(directory, "pem")
        for key, chain in pairs:
            file.write_bytes(key.rstrip() + b"\n" + chain)
            context.load_cert_chain(file)


def _server_context(configuration: ServerCertificateConfiguration, required: bool) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load_pairs(context, configuration.pairs)
    if required:
        assert configuration.roots is not None
        context.load_verify_locations(cadata=configuration.roots.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols([ALPN])
    return context


# -- channels ------------------------------------------------------------------------------


def ssl_channel_credentials(
    root_certificates: bytes | None = None,
    private_key: bytes | None = None,
    certificate_chain: bytes | None = None,
) -> ChannelCredentials:
    """TLS for a channel, from PEM bytes.

    Args:
        root_certificates: of the authorities to trust; None for the system's, or those in the
            file that the variable GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names.
        private_key, certificate_chain: to present to a server that asks for them.

    Raises:
        ValueError: there is a key without a chain, or a chain without a key.
        ssl.SSLError: these are no keys and certificates, or do not belong together.
    """
    if (private_key is None) != (certificate_chain is None):
        raise ValueError("a private key and a certificate chain belong together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if root_certificates is not None:
        context.load_verify_locations(cadata=root_certificates.decode("ascii", "ignore"))
    elif os.environ.get(_ROOTS_VARIABLE):
        context.load_verify_locations(os.environ[_ROOTS_VARIABLE])
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if private_key is not None and certificate_chain is not None:
        _load_pairs(context, [(private_key, certificate_chain)])
    return ChannelCredentials(context)


def ssl_context_channel_credentials(
    context: ssl.SSLContext, *, any_alpn: bool = False
) -> ChannelCredentials:
    """TLS for a channel, from a context.

    Args:
        context: its ALPN protocols are set; certificates that are loaded into it later are used
            from the next connection on.
        any_alpn: also accept a server that does not confirm the protocol, as one that knows
            nothing of ALPN. Without it, such a server is refused.
    """
    return ChannelCredentials(context, any_alpn=any_alpn)


def local_channel_credentials(
    local_connect_type: LocalConnectionType = LocalConnectionType.LOCAL_TCP,
) -> ChannelCredentials:
    """No encryption, for connections within one machine; any other is refused.

    Call credentials may be sent over them.
    """
    return ChannelCredentials(local=local_connect_type)


def insecure_channel_credentials() -> ChannelCredentials:
    """No encryption. As for `insecure_channel`."""
    return ChannelCredentials()


def composite_channel_credentials(
    channel_credentials: ChannelCredentials, *call_credentials: CallCredentials
) -> ChannelCredentials:
    """Credentials for connections together with credentials for every call on them."""
    call = list(call_credentials)
    if channel_credentials.call is not None:
        call.insert(0, channel_credentials.call)
    return channel_credentials.with_call(composite_call_credentials(*call))


def to_channel_credentials(credentials: ChannelCredentials | ssl.SSLContext) -> ChannelCredentials:
    """What `secure_channel` is given, as credentials."""
    if isinstance(credentials, ssl.SSLContext):
        return ssl_context_channel_credentials(credentials)
    return credentials


# -- servers -------------------------------------------------------------------------------


def ssl_server_credentials(
    private_key_certificate_chain_pairs: Sequence[KeyAndChain],
    root_certificates: bytes | None = None,
    require_client_auth: bool = False,
) -> ServerCredentials:
    """TLS for a server, from PEM bytes.

    Args:
        private_key_certificate_chain_pairs: keys with their certificates; more than one for keys
            of several types.
        root_certificates: of the authorities to trust for clients' certificates.
        require_client_auth: refuse clients without a certificate (mTLS).

    Raises:
        ValueError: there is no pair, or nothing to check clients' certificates with.
        ssl.SSLError: these are no keys and certificates, or do not belong together.
    """
    configuration = ssl_server_certificate_configuration(
        private_key_certificate_chain_pairs, root_certificates
    )
    _check(configuration, require_client_auth)
    return ServerCredentials(_server_context(configuration, require_client_auth))


def ssl_context_server_credentials(
    context: ssl.SSLContext, *, any_alpn: bool = False
) -> ServerCredentials:
    """TLS for a server, from a context.

    Args:
        context: its ALPN protocols are set; certificates that are loaded into it later are used
            from the next connection on.
        any_alpn: also accept clients that do not ask for the protocol, as those that know nothing
            of ALPN. Without it, such clients are refused.
    """
    return ServerCredentials(context, any_alpn=any_alpn)


def ssl_server_certificate_configuration(
    private_key_certificate_chain_pairs: Sequence[KeyAndChain],
    root_certificates: bytes | None = None,
) -> ServerCertificateConfiguration:
    """Certificates of a server, for `dynamic_ssl_server_credentials`.

    Raises:
        ValueError: there is no pair.
    """
    if not private_key_certificate_chain_pairs:
        raise ValueError("At least one private key-certificate chain pair is required!")
    return ServerCertificateConfiguration(private_key_certificate_chain_pairs, root_certificates)


def dynamic_ssl_server_credentials(
    initial_certificate_configuration: ServerCertificateConfiguration,
    certificate_configuration_fetcher: Callable[[], ServerCertificateConfiguration | None],
    require_client_authentication: bool = False,
) -> ServerCredentials:
    """TLS for a server whose certificates change while it runs.

    Args:
        initial_certificate_configuration: the first certificates.
        certificate_configuration_fetcher: called for every new connection, on the event loop, so
            it must not block. Returns other certificates to use from now on, or None to go on
            with those in use. What it raises is logged, and nothing changes.
        require_client_authentication: refuse clients without a certificate (mTLS).

    Raises:
        ValueError: there is nothing to check clients' certificates with.
        ssl.SSLError: the keys and certificates are none, or do not belong together.
    """
    required = require_client_authentication
    _check(initial_certificate_configuration, required)
    listening: ssl.SSLContext = _server_context(initial_certificate_configuration, required)
    current = listening

    def on_handshake(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        nonlocal current
        try:
            configuration = certificate_configuration_fetcher()
            if configuration is not None:
                _check(configuration, required)
                current = _server_context(configuration, required)
        except Exception:
            _log.exception("no new certificates: those in use stay")
        if current is not listening:
            connection.context = current

    listening.sni_callback = on_handshake
    return ServerCredentials(listening)


def _check(configuration: ServerCertificateConfiguration, required: bool) -> None:
    if required and configuration.roots is None:
        raise ValueError("Illegal to require client auth without providing root certificates!")


def local_server_credentials(
    local_connect_type: LocalConnectionType = LocalConnectionType.LOCAL_TCP,
) -> ServerCredentials:
    """No encryption, for connections within one machine; any other is refused."""
    return ServerCredentials(local=local_connect_type)


def insecure_server_credentials() -> ServerCredentials:
    """No encryption. As for `Server.add_insecure_port`."""
    return ServerCredentials()


def to_server_credentials(credentials: ServerCredentials | ssl.SSLContext) -> ServerCredentials:
    """What `Server.add_secure_port` is given, as credentials."""
    if isinstance(credentials, ssl.SSLContext):
        return ssl_context_server_credentials(credentials)
    return credentials
