"""Everything that is measured, as data."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.work import Setup, Work


class Workload(NamedTuple):
    name: str
    work: Work
    setup: Setup = Setup()
    needs: frozenset[str] = frozenset({"unary"})
    """What a peer must support."""
    stretch: float = 1.0
    """Measure this many times longer than the others."""

    @property
    def heavy(self) -> bool:
        """So much in flight that even one call of each worker takes long: there is no warm-up, and
        one measurement, which takes as long as many others, is enough."""
        return self.work.size * self.work.concurrency >= 1 << 26


SIZES = {"11 B": 11, "1 KiB": 1 << 10, "64 KiB": 1 << 16, "1 MiB": 1 << 20}
CONCURRENCIES = (1, 16, 64, 256, 1000)
STREAM_SIZES = {"16 B": 16, "1 KiB": 1 << 10, "64 KiB": 1 << 16}
UNARY = frozenset(
    {
        "unary",
        "size",
        "metadata",
        "deadline",
        "connections",
        "open",
        "burn",
        "large",
        "idle",
        "held",
    }
)
STREAMS = frozenset({"server_stream", "client_stream", "bidi", "ping_pong"})
SETUPS = frozenset({"tls", "unix", "interceptor", "wide"})


def _needs(*names: str) -> frozenset[str]:
    return frozenset({"unary", *names})


def _unary() -> list[Workload]:
    return [
        Workload(
            f"unary {size}, C={concurrency}",
            Work(size=bytes_, concurrency=concurrency),
            needs=_needs() if bytes_ == 11 else _needs("size"),
        )
        for size, bytes_ in SIZES.items()
        for concurrency in CONCURRENCIES
    ] + [Workload("unary 1 MiB, C=4", Work(size=1 << 20, concurrency=4), needs=_needs("size"))]


def _features() -> list[Workload]:
    busy = Work(concurrency=64)
    loaded = Work(concurrency=64, metadata=True, deadline=True)
    both = _needs("metadata", "deadline")
    at_client, at_server = Setup(interceptor="client"), Setup(interceptor="server")
    intercepted = _needs("interceptor")
    workloads = [
        Workload("metadata", Work(concurrency=64, metadata=True), needs=_needs("metadata")),
        Workload("deadline", Work(concurrency=64, deadline=True), needs=_needs("deadline")),
        Workload("interceptor on the client", busy, at_client, intercepted),
        Workload("interceptor on the server", busy, at_server, intercepted),
        Workload("metadata, deadline, server interceptor", loaded, at_server, both | intercepted),
        Workload("500 methods", busy, Setup(wide=True), _needs("wide")),
    ]
    for transport, name in (("tls", "TLS"), ("unix", "Unix socket")):
        workloads += [
            Workload(
                f"{name}, C={concurrency}",
                Work(concurrency=concurrency),
                Setup(transport),
                _needs(transport),
            )
            for concurrency in (1, 64)
        ]
    workloads.append(
        Workload("busy polling, C=1", Work(), Setup(busy_poll=True), _needs("busy_poll"))
    )
    return workloads


def _scale() -> list[Workload]:
    thousand = Work(concurrency=1000, connections=1000)
    return [
        Workload("1,000 connections, C=1000", thousand, needs=_needs("connections")),
        Workload(
            "64 light calls beside a CPU-heavy one",
            Work(concurrency=64, background="burn"),
            needs=_needs("burn"),
        ),
        Workload(
            "4 small calls beside a 64 MiB message",
            Work(concurrency=4, background="large"),
            needs=_needs("large"),
            stretch=4,
        ),
    ]


def _streams() -> list[Workload]:
    titles = {"server_stream": "server", "client_stream": "client", "bidi": "bidi"}
    workloads = [
        Workload(
            f"{title} stream {size}, {streams} at once",
            Work(kind, size=bytes_, concurrency=streams),
            needs=frozenset({kind}),
        )
        for kind, title in titles.items()
        for size, bytes_ in STREAM_SIZES.items()
        for streams in (1, 16)
    ]
    ping_pongs = [
        Workload(
            f"ping-pong, {streams} at once",
            Work("ping_pong", size=16, concurrency=streams),
            needs=frozenset({"ping_pong"}),
        )
        for streams in (1, 16)
    ]
    return workloads + ping_pongs


FULL = [*_unary(), *_features(), *_scale(), *_streams()]
QUICK = [
    workload
    for workload in FULL
    if workload.name in {f"unary 11 B, C={concurrency}" for concurrency in (1, 16, 64, 256)}
]
OPEN_LOOP = Work("open", concurrency=16)
IDLE = Work("idle", connections=1000)
POOL = Work("pool", connections=1000)
HELD = Work("held", concurrency=2000)
