"""The package's log, where a command writes it."""

from __future__ import annotations

import logging

_FORMAT = "%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: str | None) -> None:
    """Write the package's own log to standard error; None to leave logging to others."""
    if level is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger = logging.getLogger("protosocket_rpc")
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False  # or an app that logs to standard error, too, writes all of it twice
