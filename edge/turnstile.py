"""Keeps a storm in order: when an edge dies, thousands of devices come to the others within a second.

Each costs a millisecond or two. Side by side all of them would be too late, and what was spent on them would
be spent again; one after the other each is in time, and whoever would not be is told when to come.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from mesh.errors import ResourceExhausted

AT_ONCE = 64
"""Devices that begin to follow side by side."""

LONGEST = 1_000
"""Devices that may wait for that: some seconds, which is what a client's patience is."""

PER_SECOND = 500
"""Devices that one edge takes in a second: for whoever has to be told when to come."""

HANDSHAKES_A_TURN = 16
"""Handshakes in one turn of the event loop, so that those who are here already wait little for them."""


class Turnstile:
    """Lets devices in a few at a time, in the order of coming.

    Args:
        at_once: how many are let in side by side.
        longest: how many may wait.
        clock: seconds, monotonic.
    """

    def __init__(
        self, *, at_once: int = AT_ONCE, longest: int = LONGEST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._longest, self._clock = longest, clock
        self._waiting = 0
        self._last_slot = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a place, and holds it.

        Raises:
            ResourceExhausted: too many wait. `retry_after_ms` is a slot of the device's own.
        """
        if self._waiting >= self._longest:
            raise ResourceExhausted(
                "Too many devices are coming at once; this one has to wait.",
                reason="SHED",
                retry_after_ms=self._slot(),
            )
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def _slot(self) -> int:
        now = self._clock()
        self._last_slot = max(self._last_slot, now + self._longest / PER_SECOND) + 1 / PER_SECOND
        return round((self._last_slot - now) * 1000)


class Pace:
    """Lets a few go on in each turn of the event loop, in the order of coming.

    Args:
        a_turn: how many.
    """

    def __init__(self, a_turn: int = HANDSHAKES_A_TURN) -> None:
        self._places = asyncio.Semaphore(a_turn)

    async def wait(self) -> None:
        """Returns when it is one's turn."""
        await self._places.acquire()
        asyncio.get_running_loop().call_soon(self._places.release)
