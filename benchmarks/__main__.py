"""`python -m benchmarks quick | full | goals | rust | report`; see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import report, targets
from benchmarks.peer import Peer
from benchmarks.peers import BASELINE, FLOOR, PAIRS, PEERS, active_build
from benchmarks.results import Results
from benchmarks.run import Plan, Runner, say
from benchmarks.workloads import FULL, QUICK, Workload

_RESULTS = Path(__file__).parent / "results"
_RUST = _RESULTS / "rust.json"
_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    options = _parser().parse_args()
    options.command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True)

    quick = commands.add_parser("quick", help=f"protosocket, {BASELINE} and {FLOOR}, in a minute")
    quick.set_defaults(command=_quick, minutes=0.7, rounds=3)
    full = commands.add_parser("full", help="every peer and every workload")
    full.set_defaults(command=_full)
    goals = commands.add_parser("goals", help="what the goals are about, on the peers they name")
    goals.set_defaults(command=_goals, minutes=15, rounds=5)
    rust = commands.add_parser("rust", help="pairs of Python and Rust, and tonic")
    rust.set_defaults(command=_rust, minutes=1.2, rounds=3)
    for command in (quick, full, goals, rust):
        command.add_argument("--only", action="append", metavar="TEXT", help=(
            "only workloads whose name contains TEXT; may be repeated; "
            "'open loop' and 'costs' name the parts that are not workloads"))  # fmt: skip
        command.add_argument("--out", type=Path, help="name of the JSON file")
    full.add_argument("--peers", metavar="NAME,...", help="only these: " + ", ".join(
        peer.name.replace(",", "") for peer in PEERS))  # fmt: skip
    full.add_argument(
        "--rounds", type=int, default=5, help="three of everything, then what the goals are about"
    )
    full.add_argument(
        "--heavy-rounds",
        type=int,
        default=3,
        help="rounds of what takes long: 64 MiB in flight, and the open loop of most peers",
    )
    full.add_argument(
        "--budget", dest="minutes", type=float, default=60, help="minutes, after installation"
    )
    full.add_argument(
        "--here", action="store_true", help="use this interpreter for all Python peers"
    )

    again = commands.add_parser("report", help="tables and plots of an earlier run, anew")
    again.add_argument("json", type=Path)
    again.add_argument(
        "--docs", action="store_true", help="also put them into docs/benchmarks.md and README.md"
    )
    again.set_defaults(command=_report)
    return parser


def _quick(options: argparse.Namespace) -> None:
    """Of protosocket, the build that is active in this interpreter."""
    names = (active_build(), BASELINE, FLOOR)
    peers = [peer for peer in PEERS if peer.name in names]
    workloads = _selected(QUICK, options.only)
    plan = Plan(workloads, options.rounds, options.minutes, open_loop=False, costs=False, here=True)
    _write(Runner(plan, peers, say).run(), options.out or _RESULTS / "quick.json")


def _full(options: argparse.Namespace) -> None:
    peers = _named(options.peers)
    only = options.only
    plan = Plan(
        _selected(FULL, only),
        options.rounds,
        options.minutes,
        open_loop=not only or "open loop" in only,
        costs=not only or "costs" in only,
        here=options.here,
        heavy_rounds=options.heavy_rounds,
    )
    path = options.out or _RESULTS / "full.json"
    results = Runner(plan, peers, say).run()
    _write(results, path)
    _plot(results, path.parent)


def _goals(options: argparse.Namespace) -> None:
    needed = targets.needed()
    names: set[str] = set().union(*needed.values())
    workloads = _selected([each for each in FULL if each.name in names], options.only)
    plan = Plan(workloads, options.rounds, options.minutes, open_loop=True, costs=True, here=False)
    peers = [peer for peer in PEERS if peer.name in needed]
    _write(Runner(plan, peers, say).run(), options.out or _RESULTS / "goals.json")


def _rust(options: argparse.Namespace) -> None:
    workloads = _selected(QUICK, options.only)
    plan = Plan(
        workloads, options.rounds, options.minutes, open_loop=False, costs=False, here=False
    )
    _write(Runner(plan, PAIRS, say).run(), options.out or _RUST)


def _named(names: str | None) -> list[Peer]:
    if not names:
        return PEERS
    known = {peer.name.replace(",", ""): peer for peer in PEERS}
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            sys.exit(f"no peer is called {name!r}; there are: {', '.join(known)}")
    return [known[name] for name in wanted]


def _selected(workloads: list[Workload], only: list[str] | None) -> list[Workload]:
    chosen = [w for w in workloads if not only or any(text in w.name for text in only)]
    if not chosen and not {"open loop", "costs"} & set(only or ()):
        sys.exit(f"no workload's name contains {' or '.join(map(repr, only or ()))}")
    return chosen


def _write(results: Results, path: Path) -> None:
    results.save(path)
    text = report.render(results)
    path.with_suffix(".md").write_text(text)
    print(text)
    say(f"written: {path} and {path.with_suffix('.md').name}")


def _plot(results: Results, directory: Path) -> list[Path]:
    from benchmarks import plots  # matplotlib is slow to import, and quick does not need it

    paths = plots.draw(results, directory)
    for path in paths:
        say(f"written: {path}")
    return paths


def _report(options: argparse.Namespace) -> None:
    results = Results.load(options.json)
    _write(results, options.json)
    if options.json.name == _RUST.name:
        if options.docs:
            _fill("docs/benchmarks.md", report.render(results), "rust")
        return
    plots = _plot(results, options.json.resolve().parent)
    if options.docs:
        pictures = [path.relative_to(_ROOT) for path in plots]
        texts = {
            "docs/benchmarks.md": report.pictures(pictures, "../") + report.render(results),
            "README.md": report.summary(results) + report.pictures(pictures[:1], ""),
        }
        for name, text in texts.items():
            _fill(name, text)


def _fill(name: str, text: str, section: str = "benchmarks") -> None:
    path = _ROOT / name
    path.write_text(report.replace_in(path.read_text(), text, section))
    say(f"written: {path}")


if __name__ == "__main__":
    main()
