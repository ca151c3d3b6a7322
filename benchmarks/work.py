"""What the runner asks of a client process, and where that client finds its server.

A client reads one line of `key=value` pairs from its standard input for each measurement, and
answers with lines of JSON: `{"event": "begin"}` and `{"event": "end"}` around the measured time
(the runner reads the CPU time of both processes at those moments), then the result:
`calls`, `seconds`, and histograms named `latency` and `lateness`; or `error`.
Nothing in it depends on Python.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

TEXT = "hello world"
METADATA = (("x-request-id", "5f0c8d3e"), ("x-tenant", "acme"), ("x-trace", "00-4bf92f-01"))
LARGE_BYTES = 64 << 20
BURN_MICROSECONDS = 20_000
DEADLINE_SECONDS = 60
OF_MEMORY = ("idle", "pool", "held")


@dataclass(frozen=True)
class Work:
    """One measurement. Fields that a kind has no use for are ignored."""

    kind: str = "unary"
    """unary: closed loop. open: calls at a constant rate. server_stream, client_stream, bidi:
    messages per second. ping_pong: one message forth and back at a time. idle: open connections
    and leave them, each with a client of its own. pool: the same with one client. held:
    calls in flight that the server is slow to answer."""
    size: int = len(TEXT)
    """Bytes of payload; 11 stands for the text."""
    concurrency: int = 1
    """Calls or streams in flight, over all connections."""
    connections: int = 1
    seconds: float = 1.0
    warmup: float = 0.2
    """Seconds of the same work before the measured time."""
    rate: float = 0.0
    """Calls per second of the open loop."""
    metadata: bool = False
    """Send three entries of metadata with every call."""
    deadline: bool = False
    background: str = ""
    """burn: meanwhile one call at a time uses 20 ms of the server's CPU. large: meanwhile a
    message of 64 MiB after the other goes forth and back on the same connection."""

    def line(self) -> str:
        """As it is sent to a client."""
        return " ".join(
            f"{key}={int(value) if isinstance(value, bool) else value}"
            for key, value in asdict(self).items()
        )

    @classmethod
    def parse(cls, line: str) -> Work:
        given = dict(pair.split("=", 1) for pair in line.split())
        convert: dict[str, Any] = {
            "str": str,
            "int": int,
            "float": float,
            "bool": lambda text: text == "1",
        }
        return cls(**{f.name: convert[str(f.type)](given[f.name]) for f in fields(cls)})


class Setup(NamedTuple):
    """How a server and its client are started."""

    transport: str = "tcp"
    """tcp, tls or unix."""
    interceptor: str = ""
    """client or server: install one there that passes every call on."""
    wide: bool = False
    """Serve 50 more services of 10 methods each; clients call the last method of the last one."""
    busy_poll: bool = False

    @property
    def name(self) -> str:
        extras = [f"{self.interceptor} interceptor"] if self.interceptor else []
        extras += ["500 methods"] if self.wide else []
        extras += ["busy polling"] if self.busy_poll else []
        return "+".join([self.transport, *extras])


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens and how; the arguments of every server and client process."""

    address: str
    """`host:port` or `unix:/path`."""
    tls: Path | None = None
    """Directory of `ca.pem`, `cert.pem` and `key.pem`."""
    interceptor: str = ""
    wide: bool = False
    busy_poll: bool = False

    def arguments(self) -> list[str]:
        arguments = ["--address", self.address]
        if self.tls:
            arguments += ["--tls", str(self.tls)]
        if self.interceptor:
            arguments += ["--interceptor", self.interceptor]
        if self.wide:
            arguments.append("--wide")
        if self.busy_poll:
            arguments.append("--busy-poll")
        return arguments

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--address", required=True)
        parser.add_argument("--tls", type=Path)
        parser.add_argument("--interceptor", choices=("", "client", "server"), default="")
        parser.add_argument("--wide", action="store_true")
        parser.add_argument("--busy-poll", action="store_true")

    @classmethod
    def of(cls, options: argparse.Namespace) -> Endpoint:
        return cls(**{f.name: getattr(options, f.name) for f in fields(cls)})

    @property
    def unix_path(self) -> str | None:
        return self.address.removeprefix("unix:") if self.address.startswith("unix:") else None

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])
