"""Changing messages that are stored: by their owners, and after their senders. The rules are in `changes`."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from pymongo import UpdateOne
from pymongo.errors import DuplicateKeyError

from mesh.errors import MessengerError, NotFound, Unavailable
from mesh.mailbox import blocks, changes, documents
from mesh.mailbox.counting import recount_gone
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Shard
from mesh.mailbox.fold import LogEntry, check_text
from mesh.mailbox.model import Changed, Place, StoredMessage, changed_entry, tells_peer
from mesh.mailbox.sharded import ATTEMPTS, Sharded, update_chat

Rule = Callable[[StoredMessage], StoredMessage]
Mark = Callable[[StoredMessage], Document]


class MongoChanger(Sharded):
    """`store.MailboxChanger` on MongoDB."""

    async def edit(self, owner: str, chat_id: str, message_id: str, text: str) -> Changed:
        """See `store.MailboxChanger`."""
        check_text("text", text)
        now, entry = self._now(), await self._entry(owner, chat_id, message_id)

        def rule(message: StoredMessage) -> StoredMessage:
            return changes.edited(message, text, at=now)

        rule(entry.message)  # whose message it is comes before who has blocked whom
        pair = (owner, entry.message.peer_id)
        if refused := blocks.refusal(await blocks.find(self._of(owner), [pair]), *pair):
            raise refused
        after, changed = await self._change(entry, rule, documents.edit_mark)
        return Changed(message=after, entry=changed_entry(after) if changed else None)

    async def delete(self, owner: str, chat_id: str, message_id: str, *, for_all: bool) -> Changed:
        """See `store.MailboxChanger`."""
        now, entry = self._now(), await self._entry(owner, chat_id, message_id)
        after, changed = await self._change(
            entry, lambda message: changes.deleted(message, for_all=for_all, at=now), documents.removal_mark
        )
        return Changed(
            message=after, entry=changed_entry(after, for_all=tells_peer(after)) if changed else None
        )

    async def apply_edit(
        self,
        owner: str,
        chat_id: str,
        message_id: str,
        *,
        text: str,
        edited_at: datetime,
        version: int,
        unchecked: bool = False,
        judged_at: datetime | None = None,
    ) -> StoredMessage:
        """See `store.MailboxChanger`."""
        check_text("text", text)
        now, entry = self._now(), await self._entry(owner, chat_id, message_id)
        after, _ = await self._change(
            entry,
            lambda copy: changes.with_edit(
                copy,
                text=text,
                edited_at=edited_at,
                version=version,
                unchecked=unchecked,
                judged_at=judged_at,
                at=now,
            ),
        )
        return after

    async def apply_removal(
        self, owner: str, chat_id: str, message_id: str, *, version: int
    ) -> StoredMessage:
        """See `store.MailboxChanger`."""
        now, entry = self._now(), await self._entry(owner, chat_id, message_id)
        after, _ = await self._change(entry, lambda copy: changes.removed(copy, version=version, at=now))
        return after

    async def settle_unchecked(
        self,
        owner: str,
        chat_id: str,
        message_id: str,
        *,
        version: int,
        spam: bool,
        judged_at: datetime | None = None,
    ) -> StoredMessage:
        """See `store.MailboxChanger`."""
        now, entry = self._now(), await self._entry(owner, chat_id, message_id)
        after, _ = await self._change(
            entry,
            lambda copy: changes.judged(copy, version=version, spam=spam, at=now, judged_at=judged_at),
        )
        return after

    async def touch(self, places: Sequence[Place]) -> list[MessengerError | None]:
        """See `store.MailboxChanger`."""
        results: list[MessengerError | None] = [None] * len(places)

        async def on_shard(shard: int, positions: list[int]) -> None:
            try:
                await _touch(self._shards[shard], [places[index] for index in positions], self._now())
            except MessengerError as error:
                for index in positions:
                    results[index] = error

        grouped = self._by_shard([owner for owner, _, _ in places])
        await asyncio.gather(*(on_shard(*group) for group in grouped.items()))
        return results

    async def are_rejected(self, places: Sequence[Place]) -> list[bool | MessengerError]:
        """See `store.MailboxChanger`."""
        results: list[bool | MessengerError] = [_no_such_message() for _ in places]

        async def on_shard(shard: int, positions: list[int]) -> None:
            try:
                found = await _rejections(self._shards[shard], [places[index] for index in positions])
            except MessengerError as error:
                found = dict.fromkeys(places, error)
            for index in positions:
                results[index] = found.get(places[index], results[index])

        grouped = self._by_shard([owner for owner, _, _ in places])
        await asyncio.gather(*(on_shard(*group) for group in grouped.items()))
        return results

    async def record_rejection(
        self, owner: str, chat_id: str, message_id: str, reason: str, judged_at: datetime | None = None
    ) -> None:
        """See `store.MailboxChanger`."""
        check_text("reason", reason)
        shard, query = self._of(owner), _identity(owner, chat_id, message_id)
        first = {"rejected": {"$literal": reason}, "judged_at": judged_at or self._now()}
        update = [{"$set": {name: {"$ifNull": [f"${name}", value]} for name, value in first.items()}}]
        done = await shard.run(lambda: shard.messages.update_one(query, update))
        if not done.matched_count:
            raise _no_such_message()

    async def record_rejected_edit(self, owner: str, chat_id: str, message_id: str, version: int) -> None:
        """See `store.MailboxChanger`."""
        shard, query = self._of(owner), _identity(owner, chat_id, message_id)
        update = {"$max": {"edit_rejected": version}}
        done = await shard.run(lambda: shard.messages.update_one(query, update))
        if not done.matched_count:
            raise _no_such_message()

    async def _entry(self, owner: str, chat_id: str, message_id: str) -> LogEntry:
        shard, query = self._of(owner), _identity(owner, chat_id, message_id)
        found = await shard.find_one(documents.MESSAGES, query)
        if not found:
            raise _no_such_message()
        return documents.read_entry(found)

    async def _change(
        self, entry: LogEntry, rule: Rule, mark: Mark = lambda message: {}
    ) -> tuple[StoredMessage, bool]:
        """The message after the rule, and whether that changed it; its chat is folded in any case.

        Written only where no other call was faster, whose version the rule then starts from. A repeated call
        changes nothing and still repairs the fold that a crash has left undone.
        """
        for _ in range(ATTEMPTS):
            before, after = entry.message, rule(entry.message)
            if after == before or await self._replace(before, after, mark(after)):
                await self._fold_change(LogEntry(message=after, head=entry.head))
                return after, after != before
            entry = await self._entry(before.owner, before.chat_id, before.message_id)
        raise Unavailable("Too many change this message at once; try again.")

    async def _replace(self, before: StoredMessage, after: StoredMessage, mark: Document) -> bool:
        """Writes the change unless the message is at another version by now."""
        shard = self._of(before.owner)
        query = {
            "_id": documents.message_key(before.owner, before.chat_id, before.seq),
            "version": before.version or None,  # None finds the absent
        }
        update = documents.change_update(after, mark)
        done = await shard.run(lambda: shard.messages.update_one(query, update))
        return bool(done.matched_count)

    async def _fold_change(self, entry: LogEntry) -> None:
        """Folds a changed message into its chat; where an incoming one went, counts what is unread anew."""
        message, shard = entry.message, self._of(entry.message.owner)
        update = documents.fold_update([entry], message.changed_at or message.stored_at)
        went = message.deleted and message.sender_id != message.owner
        if went:
            update["$inc"] = update["$inc"] | {"deletions": 1}
        query = {"_id": documents.chat_key(message.owner, message.chat_id)}
        try:
            chat = await update_chat(shard, query, update, upsert=True)
        except DuplicateKeyError as error:
            raise Unavailable("The mailbox could not update the chat; try again.") from error
        if went and chat:
            await recount_gone(shard, chat)


async def _touch(shard: Shard, places: Sequence[Place], at: datetime) -> None:
    """Raises what is told of messages, then what is told of their chats, to this time."""
    changed = [UpdateOne(_identity(*place), {"$max": {"changed_at": at}}) for place in places if place[2]]
    if changed:
        await shard.run(lambda: shard.messages.bulk_write(changed, ordered=False))
    chats = {documents.chat_key(owner, chat_id) for owner, chat_id, _ in places}
    touched = [UpdateOne({"_id": key}, {"$max": {"touched_at": at, "changed_at": at}}) for key in chats]
    await shard.run(lambda: shard.chats.bulk_write(touched, ordered=False))


async def _rejections(shard: Shard, places: Sequence[Place]) -> dict[Place, bool | MessengerError]:
    """Of those messages that are there, whether they are rejected."""
    query = {"$or": [_identity(*place) for place in places]}
    fields = {"owner": 1, "chat_id": 1, "message_id": 1, "rejected": 1}
    found = await shard.find(documents.MESSAGES, query, limit=len(places), fields=fields)
    return {(one["owner"], one["chat_id"], one["message_id"]): "rejected" in one for one in found}


def _identity(owner: str, chat_id: str, message_id: str) -> Document:
    return {"owner": owner, "chat_id": chat_id, "message_id": message_id}


def _no_such_message() -> NotFound:
    return NotFound("message_id: no such message in this chat")
