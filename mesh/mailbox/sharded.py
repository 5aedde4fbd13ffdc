"""What the parts of the MongoDB store share: the shards, who lies where, the clock, the memory of logs."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from pymongo import ReturnDocument

from mesh.breaker import Part
from mesh.errors import NotFound
from mesh.lru import Lru
from mesh.mailbox import documents
from mesh.mailbox.appending import Appender, Log
from mesh.mailbox.buckets import BucketMap
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Driver, Listener, Shard
from mesh.mailbox.fold import from_ns
from mesh.mailbox.model import StoredChat

Thing = TypeVar("Thing")

KNOWN_LOGS = 100_000  # some 50 MB a process
# Times that a guarded write may lose to other calls before the caller is sent away to come back.
ATTEMPTS = 16


class Sharded:
    """Shards of the mailbox store.

    Args:
        uris: MongoDB URIs, one a shard, in shard order; a path names the database.
        driver: `motor` or `pymongo`.
        clock: nanoseconds since 1970.
        time_left: seconds that the current caller has left.
        buckets: where each bucket lives; even ranges by default.
        listeners: hear every command, or what becomes of connections; for tests and metrics.
        parts: for each shard, by its index, when to leave it alone; none is by default.
    """

    def __init__(
        self,
        uris: Sequence[str],
        driver: Driver = "motor",
        clock: Callable[[], int] = time.time_ns,
        time_left: Callable[[], float] = lambda: float("inf"),
        buckets: BucketMap | None = None,
        listeners: Sequence[Listener] = (),
        parts: Callable[[int], Part | None] = lambda shard: None,
    ) -> None:
        self._buckets = buckets or BucketMap.even(len(uris))
        self._clock = clock
        self._shards = [
            Shard(uri, driver, time_left, tuple(listeners), parts(index)) for index, uri in enumerate(uris)
        ]
        self._known: Lru[str, Log] = Lru(KNOWN_LOGS)
        self._appenders = [Appender(shard, clock, self._known) for shard in self._shards]

    @property
    def shard_count(self) -> int:
        """How many shards there are."""
        return len(self._shards)

    def shard_of(self, owner: str) -> int:
        """The index of the shard that holds the owner's mailbox."""
        return self._buckets.node_of(owner)

    async def aclose(self) -> None:
        """Closes every connection."""
        await asyncio.gather(*(shard.aclose() for shard in self._shards))

    def _of(self, owner: str) -> Shard:
        return self._shards[self.shard_of(owner)]

    async def _chat(self, owner: str, chat_id: str) -> StoredChat:
        shard, query = self._of(owner), {"_id": documents.chat_key(owner, chat_id)}
        found = await shard.find_one(documents.CHATS, query)
        if not found:
            raise no_such_chat()
        return documents.read_chat(found)

    async def _require_chat(self, owner: str, chat_id: str) -> None:
        """Raises NotFound without the chat; free where its log is known."""
        if not self._known.get(documents.chat_key(owner, chat_id)):
            await self._chat(owner, chat_id)

    def _now(self) -> datetime:
        return from_ns(self._clock())

    def _by_shard(self, owners: Sequence[str]) -> dict[int, list[int]]:
        """For each shard, the positions of its owners in the list."""
        grouped: dict[int, list[int]] = defaultdict(list)
        for index, owner in enumerate(owners):
            grouped[self.shard_of(owner)].append(index)
        return grouped


async def update_chat(
    shard: Shard, query: Document, update: Document, *, upsert: bool = False
) -> StoredChat | None:
    """The one chat that the query finds, after the update; None where it finds none."""
    after = await shard.run(
        lambda: shard.chats.find_one_and_update(
            query, update, upsert=upsert, return_document=ReturnDocument.AFTER
        )
    )
    return documents.read_chat(after) if after else None


def no_such_chat() -> NotFound:
    """The chat is not in the caller's mailbox."""
    return NotFound("chat_id: no such chat in your mailbox")
