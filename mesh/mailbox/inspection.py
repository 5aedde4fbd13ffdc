"""What an operator asks of all shards at once: one message's copies, what the outboxes hold."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from pymongo.asynchronous.collection import AsyncCollection

from mesh.mailbox import documents
from mesh.mailbox.documents import Document, in_utc
from mesh.mailbox.driver import Shard
from mesh.mailbox.model import OutboxKind, StoredChat, StoredMessage
from mesh.mailbox.sharded import Sharded

LONGEST_S = 600.0
"""Seconds that one command over a whole shard may take."""

CHATS_AT_ONCE = 500
"""Chats that one query looks through for a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One side's copy of a message.

    Attributes:
        shard: where it lies.
        message: the copy.
        chat: the chat that it is folded into; None where the fold is missing.
        outbox_since: when its event was put into the outbox that has not been confirmed; None for none.
        queued_at: when the queue first confirmed its event; None where nothing tells.
        delivered_at: when the owner's devices last told how far they have received; None where nothing tells.
        read_at: when they last told how far the owner has read; None where nothing tells.
    """

    shard: int
    message: StoredMessage
    chat: StoredChat | None
    outbox_since: datetime | None
    queued_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in one shard's outbox, of one kind.

    Attributes:
        shard: which shard.
        kind: `message`, `edit`, `removal` or the name of a chat's mark.
        count: how many.
        oldest: since when the oldest waits; None for none.
    """

    shard: int
    kind: str
    count: int
    oldest: datetime | None


class Inspector(Sharded):
    """Looks through all shards; `sharded.Sharded` describes the arguments."""

    async def copies(
        self, message_id: str, owner: str = "", looked: Callable[[], None] = lambda: None
    ) -> list[Copy]:
        """Every copy of a message, the sender's first.

        Args:
            message_id: the message.
            owner: its sender or receiver, where known: then indexes lead to both copies. Without one, every
                message of every shard is looked at.
            looked: called each time that all of a shard was looked at.
        """
        if not owner:
            found: list[Copy] = []
            for looking in asyncio.as_completed(
                [self._find(shard, {"message_id": message_id}) for shard in self._shards]
            ):
                found += await looking
                looked()
            return self._sorted(found)
        mine = await self._find(self._of(owner), {"owner": owner, "message_id": message_id})
        if not mine:
            return await self._with_peers(owner, message_id)
        known = mine[0].message
        theirs = {"owner": known.peer_id, "chat_id": known.chat_id, "message_id": message_id}
        return self._sorted([*mine, *await self._find(self._of(known.peer_id), theirs)])

    async def _with_peers(self, owner: str, message_id: str) -> list[Copy]:
        """Copies in the mailboxes of those with whom the owner has chats: one may be on its way to here."""
        shard, fields = self._of(owner), {"chat_id": 1, "peer_id": 1}
        cursor = shard.chats.find({"_id": documents.under(owner)}, fields)
        chats = await shard.run(partial(cursor.to_list, None), LONGEST_S)
        found: list[Copy] = []
        for index, positions in self._by_shard([chat["peer_id"] for chat in chats]).items():
            for start in range(0, len(positions), CHATS_AT_ONCE):
                some = [chats[position] for position in positions[start : start + CHATS_AT_ONCE]]
                places = [{"owner": one["peer_id"], "chat_id": one["chat_id"]} for one in some]
                query = {"$or": [place | {"message_id": message_id} for place in places]}
                found += await self._find(self._shards[index], query)
        return found

    def _sorted(self, copies: list[Copy]) -> list[Copy]:
        return sorted(copies, key=lambda copy: copy.message.owner != copy.message.sender_id)

    async def _find(self, shard: Shard, query: Document) -> list[Copy]:
        found = await shard.run(lambda: shard.messages.find(query).to_list(None), LONGEST_S)
        return [await self._copy(shard, document) for document in found]

    async def _copy(self, shard: Shard, document: Document) -> Copy:
        message = documents.read_message(document)
        of_chat = {"_id": documents.chat_key(message.owner, message.chat_id)}
        chat = await shard.run(lambda: shard.chats.find_one(of_chat)) or {}
        in_utc(document, documents.QUEUED_AT)
        in_utc(chat, documents.DELIVERED_AT, documents.READ_AT)
        return Copy(
            shard=self.shard_of(message.owner),
            message=message,
            chat=documents.read_chat(chat) if chat else None,
            outbox_since=in_utc(document["outbox"], "at")["at"] if "outbox" in document else None,
            queued_at=document.get(documents.QUEUED_AT),
            delivered_at=chat.get(documents.DELIVERED_AT),
            read_at=chat.get(documents.READ_AT),
        )

    async def waiting(self) -> list[Waiting]:
        """What every outbox holds, by shard and kind."""
        found = await asyncio.gather(*(self._waiting(index) for index in range(self.shard_count)))
        return [one for of_shard in found for one in of_shard]

    async def _waiting(self, index: int) -> list[Waiting]:
        shard, found = self._shards[index], []
        for collection, mark in _marked(shard):
            query = {f"{mark}.at": {"$exists": True}}
            oldest = collection.find(query, {mark: 1}).sort(f"{mark}.at", 1).limit(1)
            first = await shard.run(oldest.to_list)
            count = await shard.run(partial(collection.count_documents, query), LONGEST_S)
            at = in_utc(first[0][mark], "at")["at"] if first else None
            found.append(Waiting(shard=index, kind=_KINDS[mark], count=count, oldest=at))
        return found

    async def hurry(self) -> None:
        """Ages all that waits by a minute, so that the relay takes it at its next look."""
        await asyncio.gather(*map(_hurry, self._shards))


async def _hurry(shard: Shard) -> None:
    for collection, mark in _marked(shard):
        aged = {"$set": {f"{mark}.at": {"$subtract": [f"${mark}.at", MINUTE_MS]}}}
        query = {f"{mark}.at": {"$exists": True}}
        await shard.run(partial(collection.update_many, query, [aged]), LONGEST_S)


def _marked(shard: Shard) -> list[tuple[AsyncCollection[Document], str]]:
    """Every collection and mark that a shard's outbox is made of."""
    return [
        *((shard.messages, mark) for mark in documents.MESSAGE_MARKS),
        *((shard.chats, mark) for mark in documents.MARKS.values()),
    ]


MINUTE_MS = 60_000
_KINDS = (
    {"outbox": OutboxKind.MESSAGE.value, documents.EDIT_MARK: "edit", documents.REMOVAL_MARK: "removal"}
) | {mark: kind.value for kind, mark in documents.MARKS.items()}
