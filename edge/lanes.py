"""Order among tasks: what shares a key goes one after the other."""

import asyncio
import contextlib
from collections import Counter, defaultdict


class Lanes:
    """Runs what shares a key one after the other, in the order of entering; different keys side by side."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._users: Counter[str] = Counter()

    def enter(self, key: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Waits for the key's turn; an empty key waits for nothing."""
        return _Turn(self._locks, self._users, key) if key else contextlib.nullcontext()


class _Turn(contextlib.AbstractAsyncContextManager[None]):
    """One turn in a lane; a class, for a generator's way in and out takes twice as long."""

    __slots__ = ("_key", "_locks", "_users")

    def __init__(self, locks: dict[str, asyncio.Lock], users: Counter[str], key: str) -> None:
        self._locks, self._users, self._key = locks, users, key

    async def __aenter__(self) -> None:
        self._users[self._key] += 1
        try:
            await self._locks[self._key].acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._locks[self._key].release()
        self._leave()

    def _leave(self) -> None:
        self._users[self._key] -= 1
        if not self._users[self._key]:
            del self._users[self._key], self._locks[self._key]
