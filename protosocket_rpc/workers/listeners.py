"""The sockets of all workers. They belong to the supervisor, and outlive each of the workers.

Where the system spreads connections over sockets that share a port (Linux, with SO_REUSEPORT),
each place among the workers has sockets of its own. A worker inherits those of its place, and so
does the next one: connections that wait to be accepted wait for it, and none is lost. Elsewhere,
and with Unix sockets, all workers accept from the same socket.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from protosocket_rpc.raw import Binding, bind, parse_address

SPREADS = sys.platform == "linux"


class Listeners:
    """Bound, and not listening: a worker listens when it is ready to serve.

    Attributes:
        targets: where they are, as clients take it.
    """

    def __init__(self, targets: Sequence[str], places: int) -> None:
        """Bind everything.

        Raises:
            OSError: an address cannot be bound.
            ValueError: a target has no known form, or is none that processes can share.
        """
        self._bindings: list[Binding] = []
        self._places: list[list[socket.socket]] = [[] for _ in range(places)]
        self.targets: list[str] = []
        try:
            for target in targets:
                self._bind(target)
        except BaseException:
            self.close()
            raise

    def _bind(self, target: str) -> None:
        first = self._add(_inherited(target) or bind(target))
        self.targets.append(str(first.address))
        if first.memory is not None:
            raise ValueError(f"{target} is within one process, and not for workers")
        if not SPREADS or first.address.path or target.startswith("fd:"):
            for place in self._places:
                place.extend(first.sockets)
            return
        # Bound without sharing at first, so that a port that somebody else shares is refused.
        self._bindings.remove(first)
        first.close()
        for place in self._places:
            place.extend(self._add(bind(str(first.address), reuse_port=True)).sockets)

    def _add(self, binding: Binding) -> Binding:
        self._bindings.append(binding)
        return binding

    def of(self, place: int) -> list[socket.socket]:
        """The sockets for the worker at this place."""
        return self._places[place]

    def close(self) -> None:
        """Let go of the addresses: they are free when the last worker does so, too."""
        for binding in self._bindings:
            binding.close()
        self._bindings.clear()


def _inherited(target: str) -> Binding | None:
    """The socket that ``fd:N`` names."""
    scheme, _, number = target.partition(":")
    if scheme != "fd":
        parse_address(target)
        return None
    if not number.isdecimal():
        raise ValueError(f"{target!r} is not 'fd:' and the number of a descriptor")
    return Binding.of_socket(socket.socket(fileno=int(number)))
