"""The outbox on MongoDB: marks on messages and chats, found when they grow old and cleared when confirmed."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from mesh.errors import MessengerError
from mesh.mailbox import documents
from mesh.mailbox.changing import MongoChanger
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import PRIMARY, Shard
from mesh.mailbox.model import OutboxEntry, OutboxKind, OutboxRef


class MongoOutbox(MongoChanger):
    """`store.Outbox` on MongoDB."""

    async def due(self, shard: int, older_than: timedelta, limit: int) -> list[OutboxEntry]:
        """See `store.Outbox`."""
        at, until = self._shards[shard], self._now() - older_than
        if not await _is_any_due(at, until):
            return []
        marked = await _marked(at, documents.MESSAGES, "outbox", until, limit)
        await self._appenders[shard].fold(documents.read_entry(one) for one in marked)
        entries = [documents.message_entry(one) for one in marked]
        entries += await self._due_changes(at, until, limit)
        for kind, mark in documents.MARKS.items():
            chats = await _marked(at, documents.CHATS, mark, until, limit)
            entries += [documents.chat_entry(one, kind) for one in chats]
        return entries

    async def _due_changes(self, shard: Shard, until: datetime, limit: int) -> list[OutboxEntry]:
        entries = []
        for mark in documents.CHANGE_MARKS:
            for changed in await _marked(shard, documents.MESSAGES, mark, until, limit):
                await self._fold_change(documents.read_entry(changed))
                entries.append(documents.change_entry(changed, mark))
        return sorted(entries, key=lambda entry: entry.at)[:limit]

    async def confirm(self, refs: Sequence[OutboxRef]) -> None:
        """See `store.Outbox`. Of a message it is noted when that was first."""
        sent: dict[tuple[int, datetime], list[str]] = defaultdict(list)
        of_messages: dict[int, list[Document]] = defaultdict(list)
        of_chats: dict[int, list[Document]] = defaultdict(list)
        now = self._now()
        for ref in refs:
            shard = self.shard_of(ref.owner)
            if ref.kind is OutboxKind.MESSAGE:
                key = documents.message_key(ref.owner, ref.chat_id, ref.seq)
                sent[shard, ref.queued_at or now].append(key)
            elif ref.kind is OutboxKind.CHANGED:
                of_messages[shard] += _clear_change(ref)
            else:
                of_chats[shard].append(_clear_mark(ref))
        for (shard, at), keys in sent.items():
            queued: Document = {"$unset": {"outbox": ""}, "$min": {documents.QUEUED_AT: at}}
            of_messages[shard].append({"q": {"_id": {"$in": keys}}, "u": queued, "multi": True})
        await asyncio.gather(
            *(self._clear(shard, documents.MESSAGES, updates) for shard, updates in of_messages.items()),
            *(self._clear(shard, documents.CHATS, updates) for shard, updates in of_chats.items()),
        )

    async def _clear(self, shard: int, collection: str, updates: list[Document]) -> None:
        """Clears marks. It may fail, or be lost with its primary: the event is then published once more."""
        command = {
            "update": collection,
            "updates": updates,
            "ordered": False,
            "writeConcern": PRIMARY.document,
        }
        with suppress(MessengerError):
            await self._shards[shard].write(command, lane="calls")


def _clear_mark(ref: OutboxRef) -> Document:
    """Takes the mark off its chat, unless it speaks of a later pointer by now, or of a later count."""
    mark = documents.MARKS[ref.kind]
    query: Document = {"_id": documents.chat_key(ref.owner, ref.chat_id)}
    if ref.kind is not OutboxKind.OPENED:
        query |= {f"{mark}.up_to": ref.up_to, f"{mark}.seq": ref.seq or None}  # None finds the absent
    return {"q": query, "u": {"$unset": {mark: ""}}}


def _clear_change(ref: OutboxRef) -> list[Document]:
    """Takes the mark of this version off its message, be it edit or deletion; that of another one stays."""
    key = documents.message_key(ref.owner, ref.chat_id, ref.seq)
    return [
        {"q": {"_id": key, f"{mark}.version": ref.version}, "u": {"$unset": {mark: ""}}}
        for mark in documents.CHANGE_MARKS
    ]


async def _is_any_due(shard: Shard, until: datetime) -> bool:
    """Whether there is any mark from before then: relays look all the time, and there hardly ever is."""
    marks_of = {documents.MESSAGES: documents.MESSAGE_MARKS, documents.CHATS: documents.MARKS.values()}
    for collection, marks in marks_of.items():
        old = {"$or": [{f"{mark}.at": {"$lte": until}} for mark in marks]}
        if await shard.find_one(collection, old, {"_id": 1}):
            return True
    return False


async def _marked(shard: Shard, collection: str, mark: str, until: datetime, limit: int) -> list[Document]:
    """What has carried such a mark since before then, oldest first."""
    at = f"{mark}.at"
    return await shard.find(collection, {at: {"$lte": until}}, limit=limit, order={at: 1})
