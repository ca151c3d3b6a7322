"""A channel's connection to its server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from protosocket_rpc.errors import ProtocolError
from protosocket_rpc.raw.connection import Connection
from protosocket_rpc.raw.peer import peer_name
from protosocket_rpc.service.client_session import ClientSession
from protosocket_rpc.wire.frame import Frame, GoAway, Settings

if TYPE_CHECKING:
    from protosocket_rpc.service.subchannel import Subchannel

# Times that are noted of one connection.
_MARKS: Final = 64


class ChannelConnection(ClientSession):
    """A channel's connection.

    Attributes:
        peer_name: as `ServicerContext.peer` has it.
        go_away: what the server said when it took no more calls; None if it has not.
        failure: what ended the connection from this side; None if nothing did.
    """

    __slots__ = (
        "_marks",
        "_opened_at",
        "failure",
        "go_away",
        "peer_name",
        "subchannel",
    )

    def __init__(self, subchannel: Subchannel) -> None:
        super().__init__(subchannel.connector.limits)
        self.subchannel = subchannel
        self.peer_name = ""
        self.go_away: GoAway | None = None
        self.failure: Exception | None = None
        # Last ids, and when they were the last: calls keep no time of their own.
        self._opened_at = subchannel.connector.loop.time()
        self._marks: list[tuple[int, float]] | None = None

    @property
    def used(self) -> bool:
        """True if it ever carried a call."""
        return self._last_id > 0

    def on_open(self, connection: Connection[Frame, bytes]) -> None:
        super().on_open(connection)
        self.peer_name = sys.intern(peer_name(connection))  # others have the same

    def on_settings(self, settings: Settings) -> None:
        super().on_settings(settings)
        self.subchannel.on_greeted(self)

    def on_failure(self, error: Exception) -> None:
        self.failure = error
        self.subchannel.connector.on_failure(self.peer_name, error)
        # One that has greeted, and is gone in the middle of a message, is lost as others are.
        if isinstance(error, ProtocolError) or self.peer is None:
            self.subchannel.on_broken(self, error)

    def on_draining(self, go_away: GoAway) -> None:
        self.go_away = go_away
        self.subchannel.on_gone(self)

    def on_drained(self) -> None:
        self.sender().close()

    def remember(self, now: float) -> None:
        """Note which calls were made before `now`."""
        marks = self._marks
        if marks is None:
            if self._last_id:
                self._marks = [(self._last_id, now)]
        elif self._last_id != marks[-1][0]:
            marks.append((self._last_id, now))
            if len(marks) > _MARKS:
                del marks[0]

    def time_of(self, id: int, now: float) -> tuple[float, float]:
        """Between which times the call with this id was made, as far as was noted."""
        before = self._opened_at
        for last_id, time in self._marks or ():
            if id <= last_id:
                return before, time
            before = time
        return before, now

    def retire(self) -> None:
        """Take no more calls, and close when those in flight have ended."""
        self.draining = True
        if not self.rpcs:
            self.on_drained()

    def on_close(self, cause: Exception | None) -> None:
        self.lost = True
        self.subchannel.on_lost(self, cause)
        super().on_close(cause)
