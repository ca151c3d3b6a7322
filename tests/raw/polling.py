"""A clock for busy polling that is moved by hand: however long a busy machine takes."""

from __future__ import annotations

import pytest

from protosocket_rpc.raw import busy_poll
from protosocket_rpc.raw.busy_poll import BusyPoller


class Clock:
    """Stands in for the module ``time`` of busy polling."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(busy_poll, "time", self)

    def monotonic(self) -> float:
        return self.now

    def passes_for(self, poller: BusyPoller) -> bool:
        """Some time; whether the poller has come to its end."""
        self.now += 1.0
        return not poller.polling
