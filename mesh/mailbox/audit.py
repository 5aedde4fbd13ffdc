"""Holds mailboxes to their promises: both copies of each message, and each chat against the fold of its log.

What is wrong is told by `differences`. To repair is to start the ordinary way again, which is idempotent:
fold or count once more, or mark the outbox once more.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from msgspec import structs

from mesh.mailbox import documents
from mesh.mailbox.counting import count_anew
from mesh.mailbox.differences import Fault, Finding, Side, differences, is_folded
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Shard
from mesh.mailbox.model import OutboxKind, StoredChat, StoredMessage
from mesh.mailbox.sharded import Sharded

LONGEST_S = 600.0
"""Seconds that one command over a whole shard may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One chat, both sides, was looked at."""

    messages: int
    findings: tuple[Finding, ...]


class Auditor(Sharded):
    """Audits all shards; `sharded.Sharded` describes the arguments."""

    async def count(self, since: datetime | None) -> int:
        """How many chats' sides `audit` will look at."""
        query = _changed(since)
        counts = [
            await shard.run(partial(shard.chats.count_documents, query), LONGEST_S) for shard in self._shards
        ]
        return sum(counts)

    async def audit(
        self, since: datetime | None, settled: datetime, *, repair: bool
    ) -> AsyncIterator[Audited | None]:
        """One result for each chat's side; None for the side that was seen with its other one.

        Args:
            since: only chats that changed since then; None for all.
            settled: what was stored or changed later may still be on its way.
            repair: start what can be repaired on its ordinary way again.
        """
        for shard in self._shards:
            last = ""
            while page := await _chats(shard, _changed(since), last):
                for chat in page:
                    yield await self._audit(chat, since, settled, repair=repair)
                last = documents.chat_key(page[-1].owner, page[-1].chat_id)

    async def _audit(
        self, chat: StoredChat, since: datetime | None, settled: datetime, *, repair: bool
    ) -> Audited | None:
        if chat.peer_id < chat.owner and await self._will_be_seen(chat.peer_id, chat.chat_id, since):
            return None
        one = await self._side(chat.owner, chat.chat_id)
        other = await self._side(chat.peer_id, chat.chat_id)
        findings = list(differences(one, other, chat.chat_id, settled))
        if repair:
            sides = {one.owner: one, other.owner: other}
            findings = [await self._repair(finding, sides) for finding in findings]
        return Audited(messages=len(one.log) + len(other.log), findings=tuple(findings))

    async def _will_be_seen(self, owner: str, chat_id: str, since: datetime | None) -> bool:
        shard, query = self._of(owner), {"_id": documents.chat_key(owner, chat_id)} | _changed(since)
        return await shard.run(partial(shard.chats.find_one, query, {"_id": 1})) is not None

    async def _side(self, owner: str, chat_id: str) -> Side:
        shard, key = self._of(owner), documents.chat_key(owner, chat_id)
        # The fold first: it may be behind the log that is read after it only for as long as a write takes.
        chat = await shard.run(partial(shard.chats.find_one, {"_id": key}))
        cursor = shard.messages.find({"_id": documents.under(key)}).sort("_id", 1)
        log = await shard.run(partial(cursor.to_list, None), LONGEST_S)
        return Side(
            owner=owner,
            log=tuple(map(documents.read_entry, log)),
            chat=documents.read_chat(chat) if chat else None,
            marked=frozenset(
                one["message_id"] for one in log if not one.keys().isdisjoint(documents.MESSAGE_MARKS)
            ),
        )

    async def _repair(self, finding: Finding, sides: dict[str, Side]) -> Finding:
        owner = finding.owner
        match finding.fault:
            case Fault.FOLD:
                await self._appenders[self.shard_of(owner)].fold(sides[owner].log)
                await self._tell(owner, finding.chat_id)
                after = await self._side(owner, finding.chat_id)
                if not is_folded(after, self._now()):
                    return finding  # it runs ahead of its log, and folding moves forward only
            case Fault.UNREAD:
                await count_anew(self._of(owner), owner, finding.chat_id)
                await self._tell(owner, finding.chat_id)
            case Fault.NO_COPY | Fault.NO_CHANGE:
                (sender,) = sides.keys() - {owner}
                (message,) = (
                    entry.message
                    for entry in sides[sender].log
                    if entry.message.message_id == finding.message_id
                )
                await self._announce_again(message, changed=finding.fault is Fault.NO_CHANGE)
            case _:
                return finding
        return replace(finding, repaired=True)

    async def _tell(self, owner: str, chat_id: str) -> None:
        """Has the owner's devices told how the chat stands, by way of the outbox."""
        shard, now = self._of(owner), self._now()
        query = {"_id": documents.chat_key(owner, chat_id), "activity": {"$exists": True}}
        update = {"$set": {documents.MARKS[OutboxKind.OPENED]: {"at": now}}, "$max": {"touched_at": now}}
        await shard.run(partial(shard.chats.update_one, query, update))

    async def _announce_again(self, message: StoredMessage, *, changed: bool) -> None:
        """Marks the outbox, as the sending or the change did, unless the message has changed meanwhile."""
        shard = self._of(message.owner)
        query: Document = {
            "_id": documents.message_key(message.owner, message.chat_id, message.seq),
            "version": message.version or None,  # None finds the absent
        }
        mark: Document = {"outbox": {"at": self._now()}}
        if changed:
            now = structs.replace(message, changed_at=self._now())
            mark = documents.removal_mark(now) if message.deleted else documents.edit_mark(now)
        await shard.run(partial(shard.messages.update_one, query, {"$set": mark}))


def _changed(since: datetime | None) -> Document:
    return {"touched_at": {"$gte": since}} if since else {}


async def _chats(shard: Shard, query: Document, after: str) -> Sequence[StoredChat]:
    cursor = shard.chats.find(query | {"_id": {"$gt": after}}).sort("_id", 1).limit(PAGE)
    return [documents.read_chat(one) for one in await shard.run(cursor.to_list, LONGEST_S)]


PAGE = 200
