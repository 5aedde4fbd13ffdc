"""The mailbox store on MongoDB shards: outbox and life. Reading and writing have their own modules."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from pymongo import UpdateOne

from mesh.errors import FailedPrecondition, MessengerError, Unavailable
from mesh.mailbox import documents, schema
from mesh.mailbox.documents import Document
from mesh.mailbox.leases import MongoLeases
from mesh.mailbox.model import OutboxEntry, OutboxKind, OutboxRef
from mesh.mailbox.reading import MongoReader
from mesh.mailbox.writing import MongoWriter


class MongoMailbox(MongoReader, MongoWriter, MongoLeases):
    """`store.MailboxStore` on MongoDB; `sharded.Sharded` describes the arguments."""

    async def due(self, shard: int, older_than: timedelta, limit: int) -> list[OutboxEntry]:
        """See `store.Outbox`."""
        at, until = self._shards[shard], self._now() - older_than
        cursor = at.messages.find({"outbox.at": {"$lte": until}}, batch_size=limit + 1)
        cursor = cursor.sort("outbox.at", 1).limit(limit)
        marked = await at.run(cursor.to_list)
        await self._appenders[shard].fold(documents.read_entry(one) for one in marked)
        entries = [documents.message_entry(one) for one in marked]
        for kind, mark in documents.MARKS.items():
            chats = at.chats.find({f"{mark}.at": {"$lte": until}}, batch_size=limit + 1)
            chats = chats.sort(f"{mark}.at", 1).limit(limit)
            entries += [documents.chat_entry(one, kind) for one in await at.run(chats.to_list)]
        return entries

    async def confirm(self, refs: Sequence[OutboxRef]) -> None:
        """See `store.Outbox`."""
        messages: dict[int, list[str]] = defaultdict(list)
        marks: dict[int, list[UpdateOne]] = defaultdict(list)
        for ref in refs:
            shard = self.shard_of(ref.owner)
            if ref.kind is OutboxKind.MESSAGE:
                messages[shard].append(documents.message_key(ref.owner, ref.chat_id, ref.seq))
            else:
                marks[shard].append(_clear_mark(ref))
        await asyncio.gather(
            *(self._clear_messages(shard, keys) for shard, keys in messages.items()),
            *(self._clear_marks(shard, updates) for shard, updates in marks.items()),
        )

    async def _clear_messages(self, shard: int, keys: list[str]) -> None:
        collection = self._shards[shard].forgetful_messages
        query, update = {"_id": {"$in": keys}}, {"$unset": {"outbox": ""}}
        with suppress(MessengerError):
            await self._shards[shard].run(lambda: collection.update_many(query, update))

    async def _clear_marks(self, shard: int, updates: list[UpdateOne]) -> None:
        collection = self._shards[shard].forgetful_chats
        with suppress(MessengerError):
            await self._shards[shard].run(lambda: collection.bulk_write(updates, ordered=False))

    async def ensure_schema(self) -> None:
        """See `store.MailboxStore`."""
        results = await asyncio.gather(
            *(schema.ensure_schema(shard) for shard in self._shards), return_exceptions=True
        )
        missed = []
        for index, result in enumerate(results):
            if isinstance(result, MessengerError) and not isinstance(result, FailedPrecondition):
                missed.append(str(index))
            elif isinstance(result, BaseException):
                raise result
        if missed:
            raise Unavailable(
                f"Shards {', '.join(missed)} do not answer and may lack indexes: start them, then try again."
            )

    async def ping(self) -> tuple[bool, ...]:
        """See `store.MailboxStore`."""
        return tuple(await asyncio.gather(*(shard.ping() for shard in self._shards)))

    async def aclose(self) -> None:
        """See `store.MailboxStore`."""
        await asyncio.gather(*(shard.aclose() for shard in self._shards))


def _clear_mark(ref: OutboxRef) -> UpdateOne:
    """Takes the mark off its chat, unless it speaks of a later pointer by now."""
    mark = documents.MARKS[ref.kind]
    query: Document = {"_id": documents.chat_key(ref.owner, ref.chat_id)}
    if ref.kind is OutboxKind.READ:
        query[f"{mark}.up_to"] = ref.up_to
    return UpdateOne(query, {"$unset": {mark: ""}})
