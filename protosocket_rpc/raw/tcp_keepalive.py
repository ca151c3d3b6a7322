"""TCP's own keepalive: a peer that has vanished without a word is found, whatever it speaks."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

# Seconds without a sign of the peer until the system asks for one, seconds between its questions,
# and how many of them go unanswered until the connection is lost: two minutes in all.
TCP_KEEPALIVE_IDLE: Final = 60
TCP_KEEPALIVE_INTERVAL: Final = 15
TCP_KEEPALIVE_COUNT: Final = 4

_OPTIONS: Final = {
    "TCP_KEEPIDLE": TCP_KEEPALIVE_IDLE,
    "TCP_KEEPALIVE": TCP_KEEPALIVE_IDLE,  # what macOS calls it
    "TCP_KEEPINTVL": TCP_KEEPALIVE_INTERVAL,
    "TCP_KEEPCNT": TCP_KEEPALIVE_COUNT,
}


def keep_alive(listener: socket.socket) -> None:
    """Have TCP look after the connections that a socket will accept: they inherit its options.

    Nothing, if it is none of TCP, or if who has made it has asked for that.
    """
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        # Not every system has all, nor has every kind of socket.
        with contextlib.suppress(AttributeError, OSError):
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
