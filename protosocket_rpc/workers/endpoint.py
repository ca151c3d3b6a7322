"""The metrics of all workers over HTTP: ``/metrics`` for Prometheus, ``/ready`` for probes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from protosocket_rpc.raw import Address, parse_address
from protosocket_rpc.service.metrics import header, render
from protosocket_rpc.workers.supervisor import Supervisor

# Seconds: of a client for its request, and of the workers for an answer.
_TIMEOUT = 10.0


class Endpoint:
    """Serves the metrics on a thread, until it is closed.

    Attributes:
        target: ``host:port``, with the port that the system chose if that was left to it.
    """

    def __init__(self, target: str, supervisor: Supervisor) -> None:
        """Bind, and begin to serve. Needs the supervisor's event loop to run.

        Raises:
            OSError: the address cannot be bound.
            ValueError: the target is not ``host:port``.
        """
        address = parse_address(target)
        if address.path or address.memory:
            raise ValueError(f"metrics are served over TCP, at 'host:port', not at {target!r}")
        loop = asyncio.get_running_loop()
        family, *_, where = socket.getaddrinfo(
            address.host or "::", address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]

        class Server(ThreadingHTTPServer):
            address_family = family
            daemon_threads = True
            block_on_close = False

        class Handler(_Handler):
            def metrics(self) -> str:
                future = asyncio.run_coroutine_threadsafe(_metrics(supervisor), loop)
                return future.result(_TIMEOUT)

            def is_ready(self) -> bool:
                return supervisor.ready == supervisor.settings.workers

        self._server = Server((str(where[0]), address.port), Handler)
        host, port = self._server.socket.getsockname()[:2]
        self.target = str(Address(host, port))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT

    def metrics(self) -> str:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def do_GET(self) -> None:  # what the library calls
        path = self.path.partition("?")[0]
        if path == "/metrics":
            try:
                self._answer(200, self.metrics(), "text/plain; version=0.0.4; charset=utf-8")
            except Exception:  # the supervisor is about to end
                self._answer(503, "the workers do not answer\n")
        elif path == "/ready":
            ready = self.is_ready()
            self._answer(200 if ready else 503, "ready\n" if ready else "not ready\n")
        else:
            self._answer(404, "there are /metrics and /ready\n")

    def _answer(self, code: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: probes and scrapes come all the time."""


async def _metrics(supervisor: Supervisor) -> str:
    return render(await supervisor.count()) + "".join(f"{line}\n" for line in _own(supervisor))


def _own(supervisor: Supervisor) -> Iterator[str]:
    for name, kind, text, value in (
        ("workers_ready", "gauge", "Workers that serve.", supervisor.ready),
        ("workers", "gauge", "Workers that there should be.", supervisor.settings.workers),
        ("worker_restarts_total", "counter", "Workers that were replaced as they had died.",
         supervisor.restarts),
        ("reloads_total", "counter", "Reloads that have succeeded.", supervisor.reloads),
    ):  # fmt: skip
        yield from header(f"protosocket_{name}", kind, text)
        yield f"protosocket_{name} {value}"
