"""What is to be served, where, and by how many processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from protosocket_rpc.service.serving import DEFAULT_GRACE

DEFAULT_BIND: Final = "localhost:50051"
# Seconds; long enough for an app that loads much, short enough that one that hangs is found.
DEFAULT_START_TIMEOUT: Final = 120.0
LOOPS: Final = ("auto", "uvloop", "asyncio")
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True)
class WorkerSettings:
    """What `run_workers` is to do. Times in seconds.

    Args:
        app: ``package.module:name`` of a server without ports, a servicer, a list of servicers, or
            a function that makes one of these. The function may be a coroutine function, or give
            an async context manager, which is left when its worker ends. Workers import it; the
            supervisor does not.
        factory: call what `app` names, although it is an object and no function.
        bind: addresses, as for `Server.add_insecure_port`; or ``fd:N``, a socket that was bound by
            who has started this process.
        workers: how many processes.
        grace: what RPCs in flight have to end when a worker is to; None for none at all.
        start_timeout: what a worker has to begin to serve, imports included; then it is killed, and
            has failed. None for no limit.
        tls_cert, tls_key: files (PEM) with the certificate chain and its key. Read by each worker
            when it starts: a reload takes new ones. None for no TLS.
        client_ca: a file (PEM) with the authorities that clients need a certificate of.
        max_concurrent_rpcs: RPCs in flight in one worker; more end with RESOURCE_EXHAUSTED.
        busy_poll: seconds to poll after each traffic, too; see `ServerConnectivity`.
        metrics_bind: ``host:port`` to serve all workers' metrics at, by HTTP. None to count
            nothing.
        loop: "auto" for uvloop if it is installed, "uvloop", or "asyncio".
        log_level: of the package's own log, which is written to standard error then. None to leave
            logging to the program and to `app`.
        app_dir: where modules are looked for first; None for where this process does.

    Raises:
        ValueError: a number is too small, a name unknown, or a file is missing.
    """

    app: str
    factory: bool = False
    bind: tuple[str, ...] = (DEFAULT_BIND,)
    workers: int = 1
    grace: float | None = DEFAULT_GRACE
    start_timeout: float | None = DEFAULT_START_TIMEOUT
    tls_cert: str | None = None
    tls_key: str | None = None
    client_ca: str | None = None
    max_concurrent_rpcs: int | None = None
    busy_poll: float | None = None
    metrics_bind: str | None = None
    loop: str = "auto"
    log_level: str | None = None
    app_dir: str | None = None

    def __post_init__(self) -> None:
        module, colon, name = self.app.partition(":")
        if not (module and colon and name):
            raise ValueError(f"an app is given as 'package.module:name', not {self.app!r}")
        if not self.bind:
            raise ValueError("there is no address to bind")
        if self.workers < 1:
            raise ValueError(f"there is at least 1 worker, not {self.workers}")
        for field in ("grace", "start_timeout", "max_concurrent_rpcs", "busy_poll"):
            value = getattr(self, field)
            if value is not None and not value > 0 and not (field == "grace" and value == 0):
                raise ValueError(f"{field} must be above 0, not {value!r}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("TLS needs both a certificate and its key")
        if self.client_ca and not self.tls_cert:
            raise ValueError("certificates of clients need TLS: a certificate and its key")
        if self.loop not in LOOPS:
            raise ValueError(f"a loop is one of {', '.join(LOOPS)}, not {self.loop!r}")
        if self.log_level is not None and self.log_level not in LOG_LEVELS:
            raise ValueError(
                f"a log level is one of {', '.join(LOG_LEVELS)}, not {self.log_level!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """As it is sent to a worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> WorkerSettings:
        return cls(**{**values, "bind": tuple(values["bind"])})
