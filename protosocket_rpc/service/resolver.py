"""From the addresses of a target to the servers that they stand for."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from protosocket_rpc.raw import Address


@dataclass(frozen=True)
class Endpoint:
    """One server, as far as can be told from outside.

    Attributes:
        addresses: where it is, best first. A host with an address in each family of IP has two.
        name: what its certificate is to say.
    """

    addresses: tuple[Address, ...]
    name: str

    def __str__(self) -> str:
        return " or ".join(map(str, self.addresses))


def has_names(addresses: tuple[Address, ...]) -> bool:
    """True if there is something to resolve: what it resolves to may change."""
    return any(
        not (address.path or address.memory or _is_literal(address.host)) for address in addresses
    )


async def resolve(
    loop: asyncio.AbstractEventLoop, addresses: tuple[Address, ...], *, balance: bool
) -> list[Endpoint]:
    """The servers behind `addresses`, each once.

    Args:
        balance: every address is a server. False: all of them together are one, whose first
            address that answers will do.

    Raises:
        OSError: no name resolves. If some do, the others are left out.
    """
    endpoints: dict[Endpoint, None] = {}
    error: OSError | None = None
    for address in addresses:
        if address.path or address.memory:
            endpoints[Endpoint((address,), "localhost")] = None
        elif _is_literal(address.host):
            endpoints[Endpoint((address,), address.host)] = None
        else:
            try:
                found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
            except OSError as failure:
                error = failure
                continue
            endpoints.update(dict.fromkeys(_pair_families(address, found)))
    if not endpoints and error is not None:
        raise error
    if balance:
        return list(endpoints)
    every = tuple([address for endpoint in endpoints for address in endpoint.addresses])
    return [Endpoint(every, next(iter(endpoints)).name)]


def _pair_families(address: Address, found: Sequence[tuple[Any, ...]]) -> list[Endpoint]:
    """Endpoints from what ``getaddrinfo`` says.

    A host that speaks IPv4 and IPv6 is listed once for each. Which addresses belong to the same
    host cannot be known, but there are as many hosts as the larger family has addresses. Sorted,
    so that the same answer in another order gives the same endpoints.
    """
    families: dict[object, set[str]] = {}
    for family, _, _, _, where in found:
        families.setdefault(family, set()).add(where[0])
    columns = [sorted(hosts) for hosts in families.values()]  # the preferred family first
    return [
        Endpoint(
            tuple([Address(host, address.port) for host in row if host is not None]), address.host
        )
        for row in zip_longest(*columns)
    ]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
