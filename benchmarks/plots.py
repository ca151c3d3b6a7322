"""Pictures made from the JSON of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from benchmarks.open_loop import P999_LIMIT_MS
from benchmarks.results import PeerResults, Results
from benchmarks.workloads import CONCURRENCIES

_PERCENTILES = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)


def draw(results: Results, directory: Path) -> list[Path]:
    """Writes throughput.png, latency.png and open_loop.png, those with data; returns them."""
    figures = [
        ("throughput.png", _throughput),
        ("latency.png", _latency),
        ("open_loop.png", _open_loop),
    ]
    written = []
    for name, figure in figures:
        canvas, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
        for number, (peer, values) in enumerate(results.measured()):
            style: dict[str, Any] = {
                "color": f"C{number % 10}",
                "marker": "osD^vPX*<>"[number % 10],
                "linestyle": "-" if number < 10 else ":",
            }
            for line in figure(axes, values):
                axes.plot(*line, label=peer, linewidth=1.4, markersize=4, **style)
        if axes.get_legend_handles_labels()[0]:
            axes.grid(alpha=0.3, which="both", linewidth=0.5)
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
            canvas.savefig(directory / name, dpi=110)
            written.append(directory / name)
        pyplot.close(canvas)
    return written


Line = tuple[list[float], list[float]]


def _throughput(axes: Any, peer: PeerResults) -> Iterator[Line]:
    axes.set(xscale="log", yscale="log", xlabel="calls in flight", ylabel="calls per second")
    axes.set_title("Unary calls of 11 bytes, by concurrency")
    axes.set_xticks(CONCURRENCIES, labels=[str(c) for c in CONCURRENCIES])
    axes.minorticks_off()
    rates = {c: peer.rate(f"unary 11 B, C={c}") for c in CONCURRENCIES}
    known = {float(c): rate for c, rate in rates.items() if rate is not None}
    if known:
        yield list(known), list(known.values())


def _latency(axes: Any, peer: PeerResults) -> Iterator[Line]:
    axes.set(yscale="log", xlabel="percentile", ylabel="latency, ms")
    axes.set_title("Latency of unary calls of 11 bytes, closed loop, 64 in flight")
    axes.set_xticks(range(len(_PERCENTILES)), labels=[f"{p:g}" for p in _PERCENTILES])
    measured = peer.workloads.get("unary 11 B, C=64")
    if measured and measured.latency.total:
        values = [measured.latency.percentile(p) / 1e6 for p in _PERCENTILES]
        yield [float(x) for x in range(len(values))], values


def _open_loop(axes: Any, peer: PeerResults) -> Iterator[Line]:
    axes.set(xscale="log", yscale="log", xlabel="offered calls per second", ylabel="p99.9, ms")
    axes.set_title("Open loop: p99.9 from the intended send time, by offered rate")
    axes.axhline(P999_LIMIT_MS, color="grey", linewidth=0.8, linestyle="--")
    by_rate: dict[float, list[float]] = {}
    for step in peer.open_loop.steps:
        if not step.unanswered:
            by_rate.setdefault(step.rate, []).append(step.p999)
    if by_rate:
        rates = sorted(by_rate)
        middle = [sorted(by_rate[rate])[len(by_rate[rate]) // 2] for rate in rates]
        yield rates, middle
