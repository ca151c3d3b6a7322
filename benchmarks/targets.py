"""What protosocket is meant to reach, and how far it got."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.results import PeerResults, Results, ratio, ratio_of_rounds

COMPILED = "protosocket"
PURE = "protosocket, pure Python"
_ITSELF = ""
OPEN_LOOP = "open loop"


class Target(NamedTuple):
    """The least ratio of a figure of ours to one of a peer (or of our own)."""

    workload: str
    against: str
    compiled: float
    pure: float | None = None
    base: str = ""
    """The workload of the peer, if it is another one."""


def _targets() -> Iterator[Target]:
    one = "unary 11 B, C=1"
    yield Target(one, "grpc.aio", 5, 4.5)
    yield Target(one, "gRPC C++", 1.1)
    yield Target(one, "uvloop echo", 1 / 1.15)
    yield Target("unary 11 B, C=16", "grpc.aio", 40, 20)
    yield Target("unary 11 B, C=16", "gRPC C++", 2)
    for concurrency in (64, 256):
        workload = f"unary 11 B, C={concurrency}"
        yield Target(workload, "grpc.aio", 50, 25)
        yield Target(workload, "gRPC C++", 4)
        yield Target(workload, "gRPC Go", 5)
    yield Target("busy polling, C=1", "grpc.aio", 25, 20, one)
    yield Target(OPEN_LOOP, "grpc.aio", 40, 30)
    yield Target("server stream 16 B, 1 at once", "grpc.aio", 40, 20)
    yield Target("server stream 16 B, 1 at once", "gRPC C++", 2)
    for workload in ("unary 1 MiB, C=1", "unary 1 MiB, C=4"):
        yield Target(workload, "grpc.aio", 3, 2)
        yield Target(workload, "gRPC C++", 2)
    bare = "unary 11 B, C=64"
    for workload in (
        "metadata",
        "deadline",
        "interceptor on the client",
        "interceptor on the server",
        "metadata, deadline, server interceptor",
    ):
        yield Target(workload, _ITSELF, 0.7, 0.7, bare)
    yield Target("500 methods", _ITSELF, 1, 1, bare)
    yield Target("1,000 connections, C=1000", _ITSELF, 0.8, 0.8, "unary 11 B, C=1000")


TARGETS = list(_targets())
IDLE_BYTES = 2048


def figure(peer: PeerResults | None, workload: str) -> float | None:
    if peer is None:
        return None
    return peer.highest() if workload == OPEN_LOOP else peer.rate(workload)


def needed() -> dict[str, set[str]]:
    """The workloads that some goal is about, by the name of the peer."""
    names: dict[str, set[str]] = {COMPILED: set(), PURE: set()}
    for target in TARGETS:
        base = target.base or target.workload
        for name in (COMPILED, PURE):
            names[name] |= {target.workload} if target.against else {target.workload, base}
        if target.against:
            names.setdefault(target.against, set()).add(base)
    return names


def _got(ours: PeerResults | None, theirs: PeerResults | None, target: Target) -> float | None:
    if ours is None or theirs is None:
        return None
    if target.workload == OPEN_LOOP:
        return ratio(ours.highest(), theirs.highest())
    base = target.base or target.workload
    return ratio_of_rounds(ours.workloads.get(target.workload), theirs.workloads.get(base))


def rows(results: Results) -> Iterator[list[str]]:
    """Cells of a table: what, against what, then goal and ratio of both builds. What the run did
    not measure on any peer is left out."""
    peers = results.peers.values()
    for target in TARGETS:
        if all(figure(peer, target.workload) is None for peer in peers):
            continue
        cells = [target.workload, target.against or f"itself, {target.base}"]
        for name, goal in ((COMPILED, target.compiled), (PURE, target.pure)):
            if goal is None:
                cells += ["", ""]
                continue
            ours = results.peers.get(name)
            theirs = results.peers.get(target.against or name)
            got = _got(ours, theirs, target)
            cells += [f">= {goal:.2f}x", _verdict(got, got is not None and got >= goal)]
        yield cells
    for side in ("client", "server"):
        if not any(peer.idle_bytes(side) for peer in peers):
            continue
        cells = [f"memory of an idle connection, {side}", ""]
        for name in (COMPILED, PURE):
            peer = results.peers.get(name)
            used = peer.idle_bytes(side) if peer else None
            reached = used is not None and used <= IDLE_BYTES
            text = "not measured" if used is None else f"{used:,.0f} B"
            cells += [
                f"<= {IDLE_BYTES:,} B",
                text if reached or used is None else f"{text} (missed)",
            ]
        yield cells


def _verdict(got: float | None, reached: bool) -> str:
    if got is None:
        return "not measured"
    return f"{got:.2f}x" if reached else f"{got:.2f}x (missed)"
