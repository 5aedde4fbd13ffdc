"""Order among tasks: what shares a key goes one after the other."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator


class Lanes:
    """Runs what shares a key one after the other, in the order of entering; different keys side by side."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._users: dict[str, int] = defaultdict(int)

    @contextlib.asynccontextmanager
    async def enter(self, key: str) -> AsyncIterator[None]:
        """Waits for the key's turn; an empty key waits for nothing."""
        if not key:
            yield
            return
        self._users[key] += 1
        try:
            async with self._locks[key]:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
