"""The tables, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.open_loop import P999_LIMIT_MS
from benchmarks.peers import BASELINE, FROM_RUST
from benchmarks.results import Measurement, OpenLoop, PeerResults, Results, ratio, ratio_of_rounds
from benchmarks.workloads import CONCURRENCIES, FULL, SIZES, STREAM_SIZES

Cell = Callable[[PeerResults], str]
_BESIDE = {workload.name for workload in FULL if workload.work.background}


def render(results: Results) -> str:
    """Everything that was measured; tables without any figure are left out."""
    return "\n".join(_lines(results)) + "\n"


def summary(results: Results) -> str:
    """One table of medians, for the README."""

    def rate(workload: str) -> Cell:
        return lambda peer: f"{_si(peer.rate(workload))}{_factor(results, peer, workload)}"

    def cpu(peer: PeerResults) -> str:
        measured = peer.workloads.get("unary 11 B, C=64")
        if measured is None or not measured.rounds:
            return ""
        return f"{_us(measured, 'client')} / {_us(measured, 'server')}"

    def idle(peer: PeerResults) -> str:
        sides = peer.idle_bytes("client"), peer.idle_bytes("server")
        return " / ".join(f"{used / 1024:.1f}" if used else "-" for used in sides if any(sides))

    columns: dict[str, Cell] = {
        f"calls/s, one at a time, ratio to {BASELINE}": rate("unary 11 B, C=1"),
        "64 in flight": rate("unary 11 B, C=64"),
        "CPU us per call, client / server": cpu,
        "highest rate with p99.9 < 5 ms": lambda peer: _si(peer.highest()),
        "streamed messages/s": rate("server stream 16 B, 1 at once"),
        "KiB per idle connection, client (of a channel's 1,000, or with a channel) / server": idle,
    }
    return "\n".join(_by_peer(results, "", columns)).strip() + "\n"


def pictures(paths: Iterable[Path], prefix: str) -> str:
    """Links to plots, as lines of a document from which `prefix` leads to the paths' root."""
    return "".join(f"\n![{path.stem.replace('_', ' ')}]({prefix}{path})\n" for path in paths) + "\n"


def replace_in(document: str, report: str, section: str = "benchmarks") -> str:
    """The document with the report between the two markers of a section.

    Raises ValueError without them.
    """
    markers = rf"(<!-- {section}: begin[^>]*-->\n).*?(<!-- {section}: end -->)"
    replaced, count = re.subn(
        markers, lambda found: found[1] + report + found[2], document, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the document has no pair of <!-- {section}: begin ... end -->")
    return replaced


def _lines(results: Results) -> Iterator[str]:
    yield from _header(results)
    yield from _throughput(results)
    yield from _latency(results)
    yield from _open_loop(results)
    yield from _cpu(results)
    yield from _costs(results)
    yield from _capacity(results)
    # They are of figures of others, most of all of the baseline's.
    if BASELINE in dict(results.measured()):
        yield "### Goals"
        yield ""
        names = ["", "against", "goal", "compiled", "goal", "pure Python"]
        yield from _table(names, targets.rows(results))
    yield from _errors(results)


def _header(results: Results) -> Iterator[str]:
    machine = results.machine
    share = machine.get("stolen_percent")
    stolen = f", {share:.2g} % of the CPU time taken by the host" if share is not None else ""
    yield (
        f"Measured {results.date[:16].replace('T', ' ')} UTC at commit `{results.commit}`, "
        f"{results.settings['rounds']} rounds; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / (1 << 30):.0f} GiB, Linux {machine['kernel']}, load average "
        f"{machine['load_at_start']:.2f} at the start{stolen}."
    )
    yield ""
    versions = (
        [name, ", ".join(f"{what} {version}" for what, version in peer.versions.items())]
        for name, peer in results.measured()
    )
    yield from _table(["peer", "versions"], versions)
    for name, peer in results.peers.items():
        if peer.left_out:
            yield f"Left out: {name}: {peer.left_out}"
            yield ""


def _throughput(results: Results) -> Iterator[str]:
    ratios = f", ratio to {BASELINE}" if BASELINE in dict(results.measured()) else ""
    yield f"Medians, [lowest-highest round]{ratios}."
    yield ""
    known = {workload.name for workload in FULL}
    for size in SIZES:
        names = {f"C={c}": f"unary {size}, C={c}" for c in (1, 4, *CONCURRENCIES[1:])}
        columns = {title: name for title, name in names.items() if name in known}
        yield from _rates(results, f"Unary calls of {size} per second, by concurrency", columns)
    features = [w.name for w in FULL if w.name.startswith(("metadata", "deadline", "interceptor"))]
    columns = {name: name for name in [*features, "500 methods"]}
    yield from _rates(results, "Calls of 11 B per second, C=64, with", columns)
    others = [
        w.name for w in FULL if w.name.startswith(("TLS", "Unix", "busy", "1,000", "64 l", "4 s"))
    ]
    yield from _rates(results, "Calls of 11 B per second, other", {name: name for name in others})
    for kind in ("server", "client", "bidi"):
        columns = {
            f"{size}, {streams}": f"{kind} stream {size}, {streams} at once"
            for size in STREAM_SIZES
            for streams in (1, 16)
        }
        title = (
            f"Messages per second, {kind} stream{'s' if kind != 'bidi' else 's (each is echoed)'}"
        )
        yield from _rates(results, f"{title}, by size and streams at once", columns)
    ping_pong = {w.name: w.name for w in FULL if w.name.startswith("ping-pong")}
    yield from _rates(results, "Round trips per second on bidi streams", ping_pong)


def _rates(results: Results, title: str, columns: dict[str, str]) -> Iterator[str]:
    def cell(workload: str) -> Cell:
        def text(peer: PeerResults) -> str:
            measured = peer.workloads.get(workload)
            if measured is None:
                return ""
            if not measured.rounds:
                return "failed"
            rates = [r.rate for r in measured.rounds]
            shown = f"{_si(peer.rate(workload))} [{_si(min(rates))}-{_si(max(rates))}]"
            if workload in _BESIDE:
                shown += f" beside {_si(measured.median(lambda r: r.background))}"
            return shown + _factor(results, peer, workload)

        return text

    yield from _by_peer(results, title, {name: cell(w) for name, w in columns.items()})


def _factor(results: Results, peer: PeerResults, workload: str) -> str:
    """How many times the baseline's rate a peer's is, to go behind it; empty for its own."""
    baseline = results.peers.get(BASELINE)
    base = baseline.workloads.get(workload) if baseline else None
    factor = ratio_of_rounds(peer.workloads.get(workload), base)
    return "" if factor is None or peer is baseline else f" {_three(factor)}x"


def _latency(results: Results) -> Iterator[str]:
    def cell(workload: str) -> Cell:
        def text(peer: PeerResults) -> str:
            measured = peer.workloads.get(workload)
            if measured is None or not measured.latency.total:
                return ""
            percentiles = (measured.latency.percentile(p) / 1e6 for p in (50, 99, 99.9))
            return " / ".join(f"{value:.3g}" for value in percentiles)

        return text

    names = {f"C={c}": f"unary 11 B, C={c}" for c in CONCURRENCIES}
    mixed = {w.name: w.name for w in FULL if w.work.background}
    yield from _by_peer(
        results,
        "Latency in ms, closed loop, unary 11 B: p50 / p99 / p99.9",
        {title: cell(name) for title, name in {**names, **mixed}.items()},
    )


def _open_loop(results: Results) -> Iterator[str]:
    baseline = results.peers.get(BASELINE)

    def highest(peer: PeerResults) -> str:
        if not peer.open_loop.highest:
            return ""
        rates = peer.open_loop.highest
        return f"{_si(peer.highest())} [{_si(min(rates))}-{_si(max(rates))}]"

    def factor(peer: PeerResults) -> str:
        value = ratio(peer.highest(), baseline.highest() if baseline else None)
        return f"{_three(value)}x" if value else ""

    yield from _by_peer(
        results,
        f"Open loop: the highest constant rate with p99.9 below {P999_LIMIT_MS:.0f} ms",
        {
            "calls/s": highest,
            f"to {BASELINE}": factor,
            "p99.9 of the generator's own lateness there, ms": lambda p: _lateness(p.open_loop),
            "tries that failed at rates that held": lambda p: _repeated(p.open_loop),
            "first rate that never held, because of": lambda p: _limit(p.open_loop),
        },
    )


def _lateness(loop: OpenLoop) -> str:
    held = [step for step in loop.steps if step.holds(P999_LIMIT_MS)]
    best = max(held, key=lambda step: step.rate, default=None)
    return f"{best.lateness_p999:.2f}" if best else ""


def _repeated(loop: OpenLoop) -> str:
    """How many tries of rates that held failed all the same."""
    held = {step.rate for step in loop.steps if step.holds(P999_LIMIT_MS)}
    tries = [step for step in loop.steps if step.rate in held]
    failed = [step for step in tries if not step.holds(P999_LIMIT_MS)]
    return f"{len(failed)} of {len(tries)}" if tries else ""


def _limit(loop: OpenLoop) -> str:
    """Whether calls were already sent too late, or answered too late."""
    held = {step.rate for step in loop.steps if step.holds(P999_LIMIT_MS)}
    failed = [step for step in loop.steps if step.rate not in held]
    worst = min(failed, key=lambda step: step.rate, default=None)
    if worst is None:
        return ""
    sender = worst.lateness_p999 >= P999_LIMIT_MS
    return f"{_si(worst.rate)}: {'sent too late' if sender else 'answered too late'}"


def _cpu(results: Results) -> Iterator[str]:
    def cell(workload: str) -> Cell:
        def text(peer: PeerResults) -> str:
            measured = peer.workloads.get(workload)
            if measured is None or not measured.rounds:
                return ""
            return f"{_us(measured, 'client')} / {_us(measured, 'server')}"

        return text

    columns = {
        "C=1": "unary 11 B, C=1",
        "C=64": "unary 11 B, C=64",
        "C=1000": "unary 11 B, C=1000",
        "1,000 connections": "1,000 connections, C=1000",
        "500 methods": "500 methods",
        "1 KiB": "unary 1 KiB, C=64",
        "64 KiB": "unary 64 KiB, C=64",
        "1 MiB": "unary 1 MiB, C=4",
        "server stream 16 B": "server stream 16 B, 1 at once",
        "16 of them": "server stream 16 B, 16 at once",
    }
    yield from _by_peer(
        results,
        "CPU time in us per call or message: client / server, and how it grows",
        {title: cell(name) for title, name in columns.items()},
    )


def _us(measured: Measurement, side: str) -> str:
    value = measured.median(lambda r: float(getattr(r, f"{side}_us")))
    return f"{value:.3g}" if value is not None else ""


def _costs(results: Results) -> Iterator[str]:
    def cell(name: str, scale: float, digits: int) -> Cell:
        return lambda p: f"{p.costs[name] / scale:,.{digits}f}" if name in p.costs else ""

    def idle(side: str) -> Cell:
        return lambda p: f"{used / 1024:.1f}" if (used := p.idle_bytes(side)) else ""

    yield from _by_peer(
        results,
        "Other costs",
        {
            "idle connection, client KiB": idle("client"),
            "server KiB": idle("server"),
            "idle channel of one connection, client KiB": cell("idle_client_bytes", 1024, 1),
            "call in flight, client KiB": cell("held_client_bytes", 1024, 1),
            "server, KiB": cell("held_server_bytes", 1024, 1),
            "import, ms": cell("import_seconds", 1e-3, 0),
            "asyncio alone, ms": cell("import_asyncio_seconds", 1e-3, 0),
            "process start to first answer, ms": cell("cold_start_seconds", 1e-3, 0),
            "installed, MB": cell("install_bytes", 1e6, 1),
        },
    )


def _capacity(results: Results) -> Iterator[str]:
    for name, peer in results.measured():
        rates = [rate for c in CONCURRENCIES if (rate := peer.rate(f"unary 11 B, C={c}"))]
        if name.startswith(FROM_RUST) and rates:
            build = "pure Python" if name.endswith("pure Python") else "compiled"
            yield (
                f"What one Python server process ({build}) gives a Rust client: "
                f"**{_si(max(rates))} calls/s**."
            )
            yield ""


def _errors(results: Results) -> Iterator[str]:
    failed = [
        [name, workload, _one_line(measured.errors[-1]), str(len(measured.errors))]
        for name, peer in results.measured()
        for workload, measured in peer.workloads.items()
        if measured.errors
    ]
    failed += [
        [name, "", _one_line(error), ""]
        for name, peer in results.measured()
        for error in peer.open_loop.errors
    ]
    if failed:
        yield "### What failed"
        yield ""
        yield from _table(["peer", "workload", "last error", "times"], failed)


def _one_line(error: str) -> str:
    return " ".join(error.replace("|", "/").split())[:160]


def _by_peer(results: Results, title: str, columns: dict[str, Cell]) -> Iterator[str]:
    rows = [[name, *(cell(peer) for cell in columns.values())] for name, peer in results.measured()]
    rows = [row for row in rows if any(row[1:])]
    titles = ["peer", *columns]
    filled = [number for number in range(len(titles)) if any(row[number] for row in rows)]
    if rows:
        if title:
            yield f"### {title}"
            yield ""
        yield from _table(
            [titles[number] for number in filled],
            ([row[number] for number in filled] for row in rows),
        )


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"
    yield ""


def _si(value: float | None) -> str:
    """Three digits: 1.23M, 45.6k, 789."""
    if value is None:
        return ""
    for scale, unit in ((1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{_three(value / scale)}{unit}"
    return _three(value)


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
