"""Signals that an event loop handles, and what they do in forked children: as if it did not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

from protosocket_rpc.forks import leave_to_parent_after_fork


class LoopSignals:
    """Has the running event loop handle signals, until `remove`. For the main thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers: list[signal.Signals] = []
        leave_to_parent_after_fork(self)

    def add(self, number: signal.Signals, callback: Callable[..., Any], *arguments: Any) -> None:
        """Have a signal call something.

        Raises:
            NotImplementedError: the event loop cannot (Windows).
        """
        self._loop.add_signal_handler(number, callback, *arguments)
        self._numbers.append(number)

    def remove(self) -> None:
        """Give them back their usual effects."""
        while self._numbers:
            self._loop.remove_signal_handler(self._numbers.pop())

    def leave_to_parent(self) -> None:
        """In a forked child: signals have their usual effects.

        Those that its parent's loop handles have none of their own there, but to wake that loop.
        """
        if self._numbers:
            signal.set_wakeup_fd(-1)
        for number in self._numbers:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
        self._numbers = []
