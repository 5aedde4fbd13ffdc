"""What waits for one client of the HTTP fallback; bounded."""

import asyncio
from collections.abc import Sequence

from edge.backlog import Pushed
from edge.hub import Start


class Inbox:
    """Collects one HTTP client's live events; a `Session`.

    Args:
        most: bytes that may wait. What does not fit is not lost: the client comes back with its cursor.

    Attributes:
        start: where its events begin.
        is_over: nothing more will come.
    """

    def __init__(self, most: int) -> None:
        self.start = Start(last_event_id="", recovered=False, events=())
        self.is_over = False
        self._room = self._most = most
        self._events: list[Pushed] = []
        self._arrived = asyncio.Event()

    def put(self, events: Sequence[Pushed]) -> None:
        """Takes events; what does not fit ends it."""
        for event in events:
            self._room -= len(event.frame)
            if self.is_over or self._room < 0:
                return self.dismiss()
            self._events.append(event)
        return self._arrived.set()

    def dismiss(self) -> None:
        """See `edge.sessions.Session`."""
        self.is_over = True
        self._arrived.set()

    async def wait(self, seconds: float, going_away: asyncio.Event) -> None:
        """Returns when there is an event, when it is over, when time is up, or when the edge goes away."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._arrived, going_away)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def take(self) -> Sequence[Pushed]:
        """Hands out what has come since the last time."""
        events, self._events = self._events, []
        self._room = self._most
        self._arrived.clear()
        return events
