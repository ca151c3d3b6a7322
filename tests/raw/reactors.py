"""Reactors for the tests of connections."""

from __future__ import annotations

from typing import Any

from support import Recorder


class Echo(Recorder):
    def on_message(self, message: Any) -> None:
        super().on_message(message)
        self.connection.send(message)


class Raises(Recorder):
    """Raises `error` in the method of this name."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__()
        original = getattr(self, method)

        def raises(*args: Any) -> Any:
            original(*args)
            raise error

        setattr(self, method, raises)
