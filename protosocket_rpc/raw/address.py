"""Where to connect to or listen: the target strings that gRPC users write."""

from __future__ import annotations

from dataclasses import dataclass

_FORMS = (
    "'host:port', '[ipv6]:port', 'dns:///host:port', 'unix:path', 'unix-abstract:name' or "
    "'memory:name'"
)


@dataclass(frozen=True)
class Address:
    """A TCP address (`host`, `port`), a Unix-domain socket (`path`), or a name within the process.

    An abstract Unix socket has a path that starts with a NUL character, as the kernel sees it.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    memory: str = ""

    def __str__(self) -> str:
        if self.memory:
            return f"memory:{self.memory}"
        if self.path.startswith("\0"):
            return f"unix-abstract:{self.path[1:]}"
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_addresses(target: str) -> tuple[Address, ...]:
    """Read a target that may name several servers: ``a:1,b:2`` or ``ipv4:1.2.3.4:1,5.6.7.8:2``.

    The forms of `parse_address`, with commas between the parts behind the scheme.

    Raises:
        ValueError: the target, or a part of it, has none of these forms.
    """
    scheme, colon, rest = target.partition(":")
    if "," not in target or (colon and scheme in ("unix", "unix-abstract", "memory")):
        return (parse_address(target),)
    if not colon or scheme not in ("dns", "ipv4", "ipv6"):
        scheme, rest = "", target
    prefix = f"{scheme}:" if scheme else ""
    return tuple([parse_address(prefix + part.strip()) for part in rest.split(",")])


def parse_address(target: str) -> Address:
    """Read a target in one of gRPC's name forms.

    ``host:port``, ``[::1]:port``, ``dns:///host:port``, ``ipv4:1.2.3.4:port``,
    ``ipv6:[::1]:port``, ``unix:path``, ``unix:///absolute/path``, ``unix-abstract:name``. And
    ``memory:name``, for connections within the process and without sockets.

    Raises:
        ValueError: the target has none of these forms, or names a name server to ask.
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme == "unix":
        path = rest[2:] if rest.startswith("//") else rest
        if not path:
            raise ValueError(f"target {target!r} has no socket path")
        return Address(path=path)
    if colon and scheme == "unix-abstract":
        return Address(path="\0" + rest)
    if colon and scheme == "memory" and rest:
        return Address(memory=rest)
    authority = target
    if colon and scheme == "dns" and rest.startswith("//") and not rest.startswith("///"):
        raise ValueError(
            f"target {target!r} names a name server, which cannot be chosen: 'dns:///host:port' "
            "asks the system's"
        )
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        authority = rest.rpartition("/")[2]
        for quoted, char in (("%5B", "["), ("%5D", "]"), ("%25", "%")):  # as gRPC writes peers
            authority = authority.replace(quoted, char)
    host, colon, port = authority.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""  # an IPv6 address without brackets: no telling where the port begins
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"target {target!r} is not {_FORMS}")
    return Address(host=host, port=int(port))
