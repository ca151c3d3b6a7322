"""What an error says beside its code: where the call went, how long it took, what may help."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from protosocket_rpc.errors import ConnectionClosed, ProtocolError
from protosocket_rpc.service.channel_connection import ChannelConnection
from protosocket_rpc.status import DEADLINE_EXCEEDED, UNIMPLEMENTED

if TYPE_CHECKING:
    from protosocket_rpc.service.call import Call
    from protosocket_rpc.service.connector import Connector


def explain(
    connector: Connector, call: Call, path: str, code: int, cause: BaseException | None
) -> str:
    """One line of ``key=value`` about a call: target, peer, method, attempts, elapsed, channel.

    Args:
        path: of the method.
        code, cause: how the call ended; -1 and None if it has not.
    """
    session = _session(call)
    parts = [f"target={connector.target}"]
    if session is not None:
        parts.append(f"peer={session.peer_name}")
    parts.append(f"method={path}")
    parts.append(f"attempts={call.retries + (session is not None)}")
    parts.append(f"elapsed={_elapsed(connector, call)}")
    parts.append(f"channel={connector.state.name}")
    hint = _hint(connector, call, code, cause)
    if hint:
        parts.append(f'hint="{hint}"')
    return " ".join(parts)


def _session(call: Call) -> ChannelConnection | None:
    session = call.session
    return session if isinstance(session, ChannelConnection) else None


def _elapsed(connector: Connector, call: Call) -> str:
    """Since the call was made. A range if the call had no use for the time when it was."""
    now = connector.loop.time()
    if call.started:
        return f"{now - call.started:.3f}s"
    session = _session(call)
    if session is None:
        return "0.000s"
    earliest, latest = session.time_of(call.id, now)
    return f"{now - latest:.3f}..{now - earliest:.3f}s"


def _hint(connector: Connector, call: Call, code: int, cause: BaseException | None) -> str:
    if code == UNIMPLEMENTED:
        return "does the server serve this service, in this version?"
    if code == DEADLINE_EXCEEDED and call.session is None:
        why = f": {connector.error}" if connector.error is not None else ""
        return f"there was no connection in all that time{why}"
    for kind, hint in _HINTS:
        if isinstance(cause, kind):
            return hint
    session = _session(call)
    if isinstance(cause, ConnectionClosed) and (session is None or not session.heard):
        return "the server closed without a word: does it want TLS, or another protocol?"
    return ""


_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "is the server running, and is this its port?"),
    (FileNotFoundError, "there is no such socket: is the server running?"),
    (socket.gaierror, "the name does not resolve: is it right, and is DNS reachable?"),
    (
        ssl.SSLCertVerificationError,
        "the certificate's authority or name is not the expected one: see server_hostname",
    ),
    (ssl.SSLError, "does the server speak TLS on this port?"),
    (TimeoutError, "no answer at all: is the address right, and no firewall in between?"),
    (ProtocolError, "what answers does not speak this protocol: is this the right port?"),
)
