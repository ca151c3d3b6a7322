"""Who is at the other end of a connection, as far as the connection itself can tell."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Any, Final

from protosocket_rpc.raw.connection import Connection

_PEER_CREDENTIALS: Final = struct.Struct("3i")  # of SO_PEERCRED: pid, uid, gid

_LOCAL: Final = {
    "transport_security_type": [b"local"],
    "security_level": [b"TSI_PRIVACY_AND_INTEGRITY"],
}


class Auth:
    """What is known of a peer.

    Attributes:
        properties: by name; see `ServicerContext.auth_context`.
        identity_key: the property that says who the peer is; None if none does.
    """

    def __init__(self, properties: dict[str, list[bytes]], identity_key: str | None) -> None:
        self.properties: Final = properties
        self.identity_key: Final = identity_key


def auth_of(connection: Connection[Any, Any]) -> Auth:
    """What a connection says of its peer, under gRPC's names where gRPC has one."""
    tls = connection.get_extra_info("ssl_object")
    if tls is not None:
        return _of_certificate(tls)
    if connection.get_extra_info("memory") is not None:
        return Auth(dict(_LOCAL), None)
    sock = connection.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return _of_process(sock)
    return Auth(
        {
            "transport_security_type": [b"insecure"],
            "security_level": [b"TSI_SECURITY_NONE"],
        },
        None,
    )


def _of_certificate(tls: Any) -> Auth:
    properties = {
        "transport_security_type": [b"ssl"],
        "security_level": [b"TSI_PRIVACY_AND_INTEGRITY"],
    }
    identity_key = None
    certificate: dict[str, Any] = tls.getpeercert() or {}  # empty unless it was verified
    if certificate:
        der = tls.getpeercert(binary_form=True)
        properties["x509_pem_cert"] = [ssl.DER_cert_to_PEM_cert(der).encode()]
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        common_names = [value.encode() for name, value in subject if name == "commonName"]
        if common_names:
            identity_key = "x509_common_name"
            properties[identity_key] = common_names
        names = [value for _, value in certificate.get("subjectAltName", ())]
        # Those of a directory are no text, but tuples.
        alternatives = [value.encode() for value in names if isinstance(value, str)]
        if alternatives:
            identity_key = "x509_subject_alternative_name"
            properties[identity_key] = alternatives
    return Auth(properties, identity_key)


def _of_process(sock: Any) -> Auth:
    properties = dict(_LOCAL)
    option = getattr(socket, "SO_PEERCRED", None)  # Linux
    if option is None:
        return Auth(properties, None)
    credentials = sock.getsockopt(socket.SOL_SOCKET, option, _PEER_CREDENTIALS.size)
    pid, uid, gid = _PEER_CREDENTIALS.unpack(credentials)
    properties["peer_pid"] = [str(pid).encode()]
    properties["peer_uid"] = [str(uid).encode()]
    properties["peer_gid"] = [str(gid).encode()]
    return Auth(properties, "peer_uid")
