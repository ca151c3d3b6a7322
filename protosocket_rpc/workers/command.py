"""``protosocket serve``: an app, served by several processes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from protosocket_rpc.errors import UsageError
from protosocket_rpc.service.serving import DEFAULT_GRACE
from protosocket_rpc.workers import WorkerSettings, run_workers
from protosocket_rpc.workers.process import WorkerFailed
from protosocket_rpc.workers.settings import (
    DEFAULT_BIND,
    DEFAULT_START_TIMEOUT,
    LOG_LEVELS,
    LOOPS,
)
from protosocket_rpc.workers.worker import CANNOT_START

_DESCRIPTION = """\
Serves an app with a number of processes, and keeps them at work. The app is package.module:name of
a server without ports, a servicer, a list of servicers, or a function that makes one of these.
"""
_SIGNALS = """\
signals: SIGTERM and SIGINT (Ctrl-C) stop, with the grace; again, at once; a third time, by force.
SIGHUP replaces the workers one after the other, with new code and certificates; no call fails.
exit codes: 0 stopped; 1 an address cannot be bound; 2 wrong arguments; 3 the app cannot be served.
"""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = _parser()
    words = parser.parse_args(arguments)
    try:
        settings = _settings(words)
    except ValueError as error:
        parser.error(str(error))
    try:
        run_workers(settings)
    except WorkerFailed as error:
        return _failed(error, CANNOT_START)
    except (OSError, ValueError, UsageError) as error:
        return _failed(error, 1)
    return 0


def _failed(error: Exception, code: int) -> int:
    print(f"protosocket serve: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="protosocket serve",
        description=_DESCRIPTION,
        epilog=_SIGNALS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("app", metavar="APP", help="package.module:name")
    add("--factory", action="store_true", help="call what APP names, though it is no function")
    add("--app-dir", default=".", metavar="DIR", help="look for modules here first (default: .)")

    where = parser.add_argument_group("where to listen")
    add = where.add_argument
    add("-b", "--bind", action="append", metavar="ADDRESS", help=(
        "host:port, [ipv6]:port, unix:path or fd:N; may be repeated "
        f"(default: {DEFAULT_BIND})"))  # fmt: skip
    add("--host", help="instead of --bind, with --port (default: localhost)")
    add("--port", type=int, help="instead of --bind, with --host (default: 50051); 0 for any")
    add("--uds", metavar="PATH", help="listen on a Unix socket (too)")
    add("--tls-cert", metavar="FILE", help="certificate chain (PEM), for TLS")
    add("--tls-key", metavar="FILE", help="its key (PEM)")
    add("--client-ca", metavar="FILE", help="clients need a certificate of these authorities (PEM)")

    how = parser.add_argument_group("how to serve")
    add = how.add_argument
    add("-w", "--workers", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--grace", type=float, default=DEFAULT_GRACE, metavar="SECONDS", help=(
        f"that calls in flight have to end when a worker is to (default: {DEFAULT_GRACE:g})"
    ))  # fmt: skip
    add("--start-timeout", type=float, default=DEFAULT_START_TIMEOUT, metavar="SECONDS", help=(
        f"that a worker has to begin to serve (default: {DEFAULT_START_TIMEOUT:g})"
    ))  # fmt: skip
    add("--max-concurrent-rpcs", type=int, metavar="N", help="in one worker (default: no limit)")
    add("--busy-poll", type=int, metavar="US", help=(
        "poll instead of sleeping while calls with one reply are in flight, and for so many "
        "microseconds after each traffic: a shorter latency for a core of each worker "
        "(default: off)"))  # fmt: skip
    add("--loop", choices=LOOPS, default="auto", help="event loop (default: uvloop if there is)")

    seen = parser.add_argument_group("what is to be seen")
    add = seen.add_argument
    add("--metrics-bind", metavar="HOST:PORT", help=(
        "count calls, and serve all workers' counts by HTTP: /metrics for Prometheus, "
        "/ready for probes"))  # fmt: skip
    add("--log-level", choices=LOG_LEVELS, default="info", help="(default: info)")
    return parser


def _settings(words: argparse.Namespace) -> WorkerSettings:
    given: dict[str, Any] = vars(words)
    names = (
        *("app", "factory", "workers", "grace", "tls_cert", "tls_key", "client_ca"),
        *("start_timeout", "max_concurrent_rpcs", "metrics_bind", "loop", "log_level"),
    )
    poll = words.busy_poll
    return WorkerSettings(
        **{name: given[name] for name in names},
        bind=_bind(words),
        busy_poll=None if poll is None else poll / 1e6,
        app_dir=os.path.abspath(words.app_dir),
    )


def _bind(words: argparse.Namespace) -> tuple[str, ...]:
    bind = list(words.bind or ())
    if words.host is not None or words.port is not None:
        if bind:
            raise ValueError("--host and --port are instead of --bind")
        host, _, port = DEFAULT_BIND.rpartition(":")
        host = words.host or host
        port = port if words.port is None else words.port
        bind.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if words.uds is not None:
        bind.append(f"unix:{words.uds}")
    return tuple(bind) or (DEFAULT_BIND,)
