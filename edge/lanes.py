"""Order among tasks: what shares a key goes one after the other."""

import asyncio
import contextlib


class Lanes:
    """Runs what shares a key one after the other, in the order of entering; different keys side by side."""

    __slots__ = ("_lanes",)

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    def enter(self, key: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Waits for the key's turn; an empty key waits for nothing."""
        return _Turn(self._lanes, key) if key else contextlib.nullcontext()

    def __len__(self) -> int:
        return len(self._lanes)


class _Lane(asyncio.Lock):
    """One key's lane, there for as long as somebody is in it or waits.

    Attributes:
        calls: how many do.
    """

    calls = 0


class _Turn(contextlib.AbstractAsyncContextManager[None]):
    """One turn in a lane; a class, for a generator's way in and out takes twice as long."""

    __slots__ = ("_key", "_lane", "_lanes")

    def __init__(self, lanes: dict[str, _Lane], key: str) -> None:
        self._lanes, self._key = lanes, key

    async def __aenter__(self) -> None:
        self._lane = self._lanes.setdefault(self._key, _Lane())
        self._lane.calls += 1
        try:
            await self._lane.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lane.release()
        self._leave()

    def _leave(self) -> None:
        self._lane.calls -= 1
        if not self._lane.calls:
            del self._lanes[self._key]
