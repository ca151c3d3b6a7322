"""What a forked child does with the sockets that it has inherited: it lets go of them.

They belong to the parent. A copy that the child kept open would keep a connection alive that the
parent closes, and a port taken that the parent gives back.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol


class Inherited(Protocol):
    """What holds sockets."""

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the sockets, without a trace that the parent could see."""
        ...  # a protocol has no body


def leave_to_parent_after_fork(holder: Inherited) -> None:
    """Have ``holder.leave_to_parent()`` called in each child forked from now on, while it lives."""
    _everyone.add(holder)


def release_socket(sock: Any) -> None:
    """In a forked child: close the child's copy of a socket's descriptor; its number stays taken.

    The other end learns of it when the parent closes its own, as if there had been no fork.
    Closing the number as well would let another file have it, while the objects that the child
    has inherited still take it for theirs.

    Args:
        sock: a socket, or what a transport has for one; None does nothing.
    """
    if sock is None or sock.fileno() < 0:
        return
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, sock.fileno(), inheritable=False)
    finally:
        os.close(null)


_everyone: weakref.WeakSet[Any] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_everyone):
        each.leave_to_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, where there is no fork
    os.register_at_fork(after_in_child=_after_fork)
