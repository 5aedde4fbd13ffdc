"""Holds mailboxes to their promises: both copies of each message, and each chat against the fold of its log.

What differs is told by `differences`, which is pure. To repair is to start the ordinary way again, which is
idempotent: fold once more, or mark the outbox once more.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from mesh.mailbox import documents
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Shard
from mesh.mailbox.fold import Head, LogEntry, fold
from mesh.mailbox.model import StoredChat, StoredMessage
from mesh.mailbox.sharded import Sharded

LONGEST_S = 600.0
"""Seconds that one command over a whole shard may take."""


class Fault(StrEnum):
    """What can be wrong. The first two are repaired."""

    NO_COPY = "the receiver has no copy"
    FOLD = "the chat is not the fold of its log"
    HOLE = "seq has a hole or repeats"
    HEAD = "a message tells a wrong count or greatest id"
    NO_ORIGINAL = "the sender has no such message"
    CONTENT = "the two copies differ"


REPAIRABLE = frozenset({Fault.NO_COPY, Fault.FOLD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        fault: what.
        owner: in whose mailbox.
        chat_id: in which chat.
        message_id: which message; empty where it is about the chat.
        detail: expected and found.
        repaired: it was started on its ordinary way again.
    """

    fault: Fault
    owner: str
    chat_id: str
    message_id: str = ""
    detail: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a chat: its log in the order of seq, and its fold; None where there is none.

    Attributes:
        marked: ids of own messages whose event has not been confirmed yet.
    """

    owner: str
    log: tuple[LogEntry, ...]
    chat: StoredChat | None
    marked: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One chat, both sides, was looked at."""

    messages: int
    findings: tuple[Finding, ...]


def differences(one: Side, other: Side, chat_id: str, settled: datetime) -> Iterator[Finding]:
    """Everything that is wrong with a chat's two sides.

    Args:
        one: a side.
        other: the other one.
        chat_id: the chat.
        settled: messages that were stored later may still be on their way.
    """
    for side, peer in ((one, other), (other, one)):
        yield from _of_log(side, chat_id)
        yield from _of_fold(side, chat_id)
        yield from _of_copies(side, peer, chat_id, settled)


def _of_log(side: Side, chat_id: str) -> Iterator[Finding]:
    head = Head()
    for place, entry in enumerate(side.log, start=1):
        message = entry.message
        found = partial(Finding, owner=side.owner, chat_id=chat_id, message_id=message.message_id)
        if message.seq != place:
            yield found(fault=Fault.HOLE, detail=f"seq {message.seq} where {place} belongs")
            return  # everything behind it is shifted
        is_incoming = message.sender_id != side.owner
        head = Head(seq=place, incoming=head.incoming + is_incoming, top=max(head.top, message.message_id))
        if entry.head != head:
            yield found(fault=Fault.HEAD, detail=f"{entry.head} where it is {head}")


def _of_fold(side: Side, chat_id: str) -> Iterator[Finding]:
    chat = side.chat
    if not side.log:
        return
    expected: StoredChat | None = None
    for entry in side.log:
        expected = fold(expected, entry, at=entry.message.stored_at)
    if (told := _told(chat)) != (wanted := _told(expected)):
        yield Finding(
            fault=Fault.FOLD, owner=side.owner, chat_id=chat_id, detail=f"{told} where the log says {wanted}"
        )


def _told(chat: StoredChat | None) -> str:
    """What a chat's document must tell as its log does; the list's place may well be later (an opening)."""
    if chat is None:
        return "no chat"
    last = f"{chat.last.message_id} v{chat.last.version}" if chat.last else "none"
    return f"seq {chat.seq}, incoming {chat.incoming}, top {chat.top}, last {last}"


def _of_copies(side: Side, peer: Side, chat_id: str, settled: datetime) -> Iterator[Finding]:
    copies = {entry.message.message_id: entry.message for entry in peer.log}
    for message in (entry.message for entry in side.log):
        copy = copies.get(message.message_id)
        found = partial(Finding, chat_id=chat_id, message_id=message.message_id)
        if message.sender_id != side.owner:
            if copy is None:
                yield found(fault=Fault.NO_ORIGINAL, owner=side.owner)
            continue
        if copy is None:
            waits = message.message_id in side.marked or message.stored_at > settled
            if not message.rejected and not message.deleted and not waits:
                yield found(fault=Fault.NO_COPY, owner=peer.owner)
        elif detail := _differ(message, copy):
            yield found(fault=Fault.CONTENT, owner=peer.owner, detail=detail)


def _differ(sent: StoredMessage, copy: StoredMessage) -> str:
    """What differs between two copies; an edit or a deletion may be on its way, or be one side's own."""
    names = ["sender_id", "created_at"]
    if (sent.version, sent.deleted) == (copy.version, copy.deleted):
        names.append("text")
    different = [name for name in names if getattr(sent, name) != getattr(copy, name)]
    return f"differ in {', '.join(different)}" if different else ""


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
            settled: messages that were stored later may still be on their way.
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
            marked=frozenset(one["message_id"] for one in log if "outbox" in one),
        )

    async def _repair(self, finding: Finding, sides: dict[str, Side]) -> Finding:
        match finding.fault:
            case Fault.FOLD:
                shard = self._appenders[self.shard_of(finding.owner)]
                await shard.fold(sides[finding.owner].log)
            case Fault.NO_COPY:
                (sender,) = sides.keys() - {finding.owner}
                await self._announce_again(sender, finding.chat_id, finding.message_id)
            case _:
                return finding
        return replace(finding, repaired=True)

    async def _announce_again(self, owner: str, chat_id: str, message_id: str) -> None:
        shard = self._of(owner)
        query = {"owner": owner, "chat_id": chat_id, "message_id": message_id}
        marked = {"$set": {"outbox": {"at": self._now()}}}
        await shard.run(partial(shard.messages.update_one, query, marked))


def _changed(since: datetime | None) -> Document:
    return {"touched_at": {"$gte": since}} if since else {}


async def _chats(shard: Shard, query: Document, after: str) -> Sequence[StoredChat]:
    cursor = shard.chats.find(query | {"_id": {"$gt": after}}).sort("_id", 1).limit(PAGE)
    return [documents.read_chat(one) for one in await shard.run(cursor.to_list, LONGEST_S)]


PAGE = 200
