"""Appending to the logs of one shard: many messages by few commands, each with its own result.

A round inserts at most one message a chat, at its head's seq + 1; unique indexes decide. A duplicate on `_id`
means that somebody was faster: read the head again. One on `message_id` or `client_msg_id` means that it is
done already. Then all that is stored is folded into the chats. After a crash anywhere the same call does the
rest.

Waiting for the majority is most of what a write costs, so the last round leaves it to the fold: what a
majority has of a primary's log it has with all that stands before it. That holds where one primary took both,
and until then nothing may follow a message that could yet be rolled back.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace
from pymongo.write_concern import WriteConcern

from mesh.errors import IdempotencyConflict, Internal, MessengerError, NotFound, Unavailable
from mesh.lru import Lru
from mesh.mailbox import blocks, documents
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import MAJORITY, PRIMARY, Shard
from mesh.mailbox.fold import Head, LogEntry, from_ns, place_incoming, place_own, same_content
from mesh.mailbox.ids import next_message_id
from mesh.mailbox.model import Appended, IncomingMessage, NewMessage, StoredMessage

# Rounds that one message may lose to other writers before the caller is sent away to come back.
ATTEMPTS = 32
DUPLICATE_KEY = 11000


class Log(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a chat's log: whom and what it is about, for ever, and where it ended when last seen.

    An outdated head does no harm: an insert behind it meets a duplicate.
    """

    peer_id: str
    item_id: str
    head: Head


@dataclass(slots=True)
class _Item:
    """One message on its way, and what has become of it."""

    new: NewMessage | IncomingMessage
    lost: int = 0
    stored: LogEntry | None = None
    duplicate: bool = False
    error: MessengerError | None = None
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = documents.chat_key(self.new.owner, self.new.chat_id)

    @property
    def waits(self) -> bool:
        return self.stored is None and self.error is None

    def result(self) -> Appended | MessengerError:
        if self.error:
            return self.error
        if self.stored is None:
            return Internal("The message was lost on the way to the mailbox.")
        return Appended(message=self.stored.message, duplicate=self.duplicate)


class Appender:
    """Appends to the logs of one shard.

    Args:
        shard: where they lie.
        clock: nanoseconds since 1970.
        known: logs kept in memory; the least recently used is forgotten first, at the cost of a read.
    """

    def __init__(self, shard: Shard, clock: Callable[[], int], known: Lru[str, Log]) -> None:
        self._shard = shard
        self._clock = clock
        self._known = known

    async def append(
        self, messages: Sequence[NewMessage | IncomingMessage]
    ) -> list[Appended | MessengerError]:
        """One result a message, in order; those of one chat are appended in the order given."""
        items = [_Item(new=new) for new in messages]
        primaries: set[object] = set()
        try:
            logs = await self._learn(items)
            await self._refuse_blocked(items, logs)
            while turn := _one_a_chat(items):
                last = len(turn) == sum(item.waits for item in items)
                primaries.add(await self._round(turn, logs, PRIMARY if last else MAJORITY))
            if stored := [item.stored for item in items if item.stored]:
                primaries.add(await self.fold(stored))
            if len(primaries) > 1:
                raise Unavailable("The mailbox changed its primary under the call; try again.")
            for item in items:
                if item.stored and not item.duplicate:
                    self._known.put(item.key, logs[item.key])
        except MessengerError as error:
            # What is stored without its fold is reported as failed, too: the repeated call folds it.
            for item in items:
                item.error = item.error or error
        return [item.result() for item in items]

    async def fold(self, entries: Iterable[LogEntry]) -> object:
        """Folds entries into their chats by one command; a chat that is not there yet is created.

        Returns:
            Names the primary and its term; None where there was nothing to fold.
        """
        by_chat: dict[str, list[LogEntry]] = {}
        for entry in entries:
            key = documents.chat_key(entry.message.owner, entry.message.chat_id)
            by_chat.setdefault(key, []).append(entry)
        if not by_chat:
            return None
        at = from_ns(self._clock())
        updates = [
            {"q": {"_id": key}, "u": documents.fold_update(of_chat, at), "upsert": True}
            for key, of_chat in by_chat.items()
        ]
        reply = await self._shard.write(
            {
                "update": documents.CHATS,
                "updates": updates,
                "ordered": False,
                "writeConcern": MAJORITY.document,
            }
        )
        if "writeErrors" in reply:
            raise Unavailable("The mailbox could not update the chat; try again.")
        if "upserted" in reply:
            created = [by_chat[one["_id"]][0].message for one in reply["upserted"]]
            await blocks.flag_new(self._shard, [(one.owner, one.peer_id) for one in created], at)
        return reply.get("electionId")

    async def _learn(self, items: list[_Item]) -> dict[str, Log]:
        """Finds whom each chat is with and, as far as its document tells, where its log ends."""
        logs = {item.key: log for item in items if (log := self._known.get(item.key))}
        if unknown := {item.key for item in items} - logs.keys():
            logs |= await self._read_chats(unknown)
        for item in items:
            if item.key in logs:
                continue
            if isinstance(item.new, NewMessage):
                item.error = NotFound("chat_id: no such chat in your mailbox")
            else:
                logs[item.key] = Log(peer_id=item.new.sender_id, item_id=item.new.item_id, head=Head())
        return logs

    async def _refuse_blocked(self, items: list[_Item], logs: dict[str, Log]) -> None:
        """Refuses own messages to people with whom there is a block, but for repetitions of stored ones.

        Read each time, for a block that has been answered holds at once in every process.
        """
        pairs = {
            item.key: (item.new.owner, logs[item.key].peer_id)
            for item in items
            if item.waits and isinstance(item.new, NewMessage)
        }
        if not pairs or not (found := await blocks.find(self._shard, set(pairs.values()), lane="appends")):
            return
        refused = {key: error for key, pair in pairs.items() if (error := blocks.refusal(found, *pair))}
        held = [item for item in items if item.waits and item.key in refused]
        await self._take_stored(held, lambda item: refused[item.key])

    async def _read_chats(self, keys: set[str]) -> dict[str, Log]:
        fields = {"peer_id": 1, "item_id": 1, "seq": 1, "incoming": 1, "top": 1}
        query = {"_id": {"$in": sorted(keys)}}
        chats = await self._shard.find(
            documents.CHATS, query, limit=len(keys), fields=fields, committed=True, lane="appends"
        )
        return {
            chat["_id"]: Log(
                peer_id=chat["peer_id"], item_id=chat.get("item_id", ""), head=documents.read_head(chat)
            )
            for chat in chats
        }

    async def _round(self, turn: list[_Item], logs: dict[str, Log], concern: WriteConcern) -> object:
        """Tries to insert each item behind the head that is known of its log.

        Returns:
            Names the primary and its term.
        """
        entries = [self._place(item, logs[item.key]) for item in turn]
        reply = await self._insert(entries, concern)
        refused = {one["index"]: one["keyPattern"] for one in reply.get("writeErrors", ())}
        for index, (item, entry) in enumerate(zip(turn, entries, strict=True)):
            if index not in refused:
                item.stored = entry
                logs[item.key] = replace(logs[item.key], head=entry.head)
        done = [turn[index] for index, pattern in refused.items() if _is_done(turn[index], pattern)]
        beaten = [turn[index] for index, pattern in refused.items() if not _is_done(turn[index], pattern)]
        await self._take_stored(
            done, lambda _: Unavailable("The mailbox was changing under the call; try again.")
        )
        await self._read_heads(beaten, logs, reply.get("operationTime"))
        return reply.get("electionId")

    def _place(self, item: _Item, log: Log) -> LogEntry:
        now_ns = self._clock()
        if isinstance(item.new, IncomingMessage):
            return place_incoming(item.new, log.head, at=from_ns(now_ns))
        return place_own(
            item.new,
            log.head,
            peer_id=log.peer_id,
            item_id=log.item_id,
            message_id=next_message_id(now_ns, log.head.top, random.getrandbits),
            at=from_ns(now_ns),
        )

    async def _insert(self, entries: list[LogEntry], concern: WriteConcern) -> Document:
        """Inserts by one command; its `writeErrors` are what unique indexes refused."""
        reply = await self._shard.write(
            {
                "insert": documents.MESSAGES,
                "documents": [documents.message_document(entry) for entry in entries],
                "ordered": False,
                "writeConcern": concern.document,
            }
        )
        if any(one["code"] != DUPLICATE_KEY for one in reply.get("writeErrors", ())):
            raise Unavailable("The mailbox could not store the message; try again.")
        return reply

    async def _take_stored(self, items: list[_Item], otherwise: Callable[[_Item], MessengerError]) -> None:
        """Answers items that are in the log with what is there, and those that are not with an error."""
        if not items:
            return
        query = {"$or": [_identity(item.new) for item in items]}
        found = await self._shard.find(documents.MESSAGES, query, limit=len(items), lane="appends")
        entries = map(documents.read_entry, found)
        stored = {_key_of(entry.message): entry for entry in entries}
        for item in items:
            entry = stored.get(_key_of(item.new))
            if entry is None:
                item.error = otherwise(item)
            elif isinstance(item.new, NewMessage) and not same_content(entry.message, item.new):
                item.error = IdempotencyConflict("client_msg_id: was used for another message")
            else:
                item.stored, item.duplicate = entry, True

    async def _read_heads(self, items: list[_Item], logs: dict[str, Log], seen: object) -> None:
        """Reads again where the logs end that somebody else has written to, once that is there to stay."""
        heads = await asyncio.gather(*(read_head(self._shard, item.key, seen) for item in items))
        for item, head in zip(items, heads, strict=True):
            logs[item.key] = replace(logs[item.key], head=head)
            item.lost += 1
            if item.lost >= ATTEMPTS:
                item.error = Unavailable("Too many write to this chat at once; try again.")


async def read_head(shard: Shard, key: str, seen: object = None) -> Head:
    """Where the log of a chat (`owner:chat_id`) ends, as a majority has it.

    Args:
        shard: where it lies.
        key: the chat.
        seen: a shard's time; waits until a majority has everything up to then.
    """
    found = await shard.find(
        documents.MESSAGES,
        {"_id": documents.under(key)},
        limit=1,
        fields={"seq": 1, "incoming": 1, "top": 1},
        order={"_id": -1},
        committed=True,
        seen=seen,
        lane="appends",
    )
    return documents.read_head(found[0] if found else None)


def _one_a_chat(items: list[_Item]) -> list[_Item]:
    """The first waiting item of each chat: a second one would need to know that the first got its place."""
    turn: dict[str, _Item] = {}
    for item in items:
        if item.waits:
            turn.setdefault(item.key, item)
    return list(turn.values())


def _is_done(item: _Item, pattern: dict[str, Any]) -> bool:
    """Whether the index that refused tells that this very message is stored, and not its place taken."""
    return ("client_msg_id" if isinstance(item.new, NewMessage) else "message_id") in pattern


def _identity(new: NewMessage | IncomingMessage) -> Document:
    """Finds the message that the index took this one for."""
    if isinstance(new, NewMessage):
        return {"owner": new.owner, "client_msg_id": new.client_msg_id}
    return {"owner": new.owner, "chat_id": new.chat_id, "message_id": new.message_id}


def _key_of(message: NewMessage | IncomingMessage | StoredMessage) -> tuple[str, ...]:
    """What is unique about a message: own ones have their idempotency key, incoming ones their id."""
    if isinstance(message, NewMessage) or (isinstance(message, StoredMessage) and message.client_msg_id):
        return message.owner, message.client_msg_id
    return message.owner, message.chat_id, message.message_id
