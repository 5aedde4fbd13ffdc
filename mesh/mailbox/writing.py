"""Writing to mailboxes: opening chats, appending, moving pointers. Appending itself is in `appending`."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from pymongo.errors import DuplicateKeyError

from mesh.errors import InvalidArgument, MessengerError, NotFound, Unavailable
from mesh.mailbox import blocks, documents
from mesh.mailbox.appending import read_head
from mesh.mailbox.counting import count_gone, count_incoming_above
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Shard
from mesh.mailbox.fold import Head, check_incoming, check_new, check_user
from mesh.mailbox.ids import chat_id as chat_id_of
from mesh.mailbox.model import Appended, IncomingMessage, Moved, NewMessage, Opened, StoredChat
from mesh.mailbox.sharded import ATTEMPTS, Sharded, update_chat

New = TypeVar("New", NewMessage, IncomingMessage)

# How long opening a chat waits for the peer's shard.
HIDDEN_COPY_S = 0.5


class MongoWriter(Sharded):
    """`store.MailboxWriter` on MongoDB."""

    async def open_chat(self, owner: str, peer_id: str, item_id: str = "") -> Opened:
        """See `store.MailboxWriter`."""
        check_user("owner", owner)
        check_user("peer_id", peer_id)
        if owner == peer_id:
            raise InvalidArgument("peer_id: must be somebody else")
        chat_id = chat_id_of(owner, peer_id, item_id)
        if chat := await self._listed(owner, chat_id):
            return Opened(chat=chat, created=False)
        opened, _ = await asyncio.gather(
            self._list(owner, chat_id, peer_id, item_id), self._hide(peer_id, chat_id, owner, item_id)
        )
        return opened

    async def append_own(self, messages: Sequence[NewMessage]) -> list[Appended | MessengerError]:
        """See `store.MailboxWriter`."""
        return await self._append(messages, check_new)

    async def append_incoming(self, messages: Sequence[IncomingMessage]) -> list[Appended | MessengerError]:
        """See `store.MailboxWriter`."""
        return await self._append(messages, check_incoming)

    async def _append(
        self, messages: Sequence[New], check: Callable[[New], None]
    ) -> list[Appended | MessengerError]:
        """Appends what passes the check, all shards side by side."""
        results: dict[int, Appended | MessengerError] = {}
        for index, message in enumerate(messages):
            try:
                check(message)
            except InvalidArgument as error:
                results[index] = error
        good = [index for index in range(len(messages)) if index not in results]

        async def on_shard(shard: int, positions: list[int]) -> None:
            batch = [messages[good[position]] for position in positions]
            answers = await self._appenders[shard].append(batch)
            results.update(zip((good[position] for position in positions), answers, strict=True))

        grouped = self._by_shard([messages[index].owner for index in good])
        await asyncio.gather(*(on_shard(*group) for group in grouped.items()))
        return [results[index] for index in range(len(messages))]

    async def mark_read(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`.

        The count of what has been read is taken for the head of the log, and written only where no other call
        has moved the pointer meanwhile: two that overlap end as one after the other would.
        """
        shard = self._of(owner)
        if not await _holds(shard, owner, chat_id, up_to):
            raise _no_such_place()
        for _ in range(ATTEMPTS):
            chat = await self._chat(owner, chat_id)
            if up_to < chat.read_up_to:
                return Moved(chat=chat, moved=False)
            head = await read_head(shard, documents.chat_key(owner, chat_id))
            read = head.incoming - await count_incoming_above(shard, chat, up_to, head)
            if (up_to, read) == (chat.read_up_to, chat.read_incoming):
                return Moved(chat=chat, moved=False)
            gone = await count_gone(shard, chat, up_to, head.seq) if chat.deletions else 0
            if after := await self._set_pointer(chat, up_to, read, gone, head):
                return Moved(chat=after, moved=True)
        raise Unavailable("Too many mark this chat as read at once; try again.")

    async def mark_delivered(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        if not await _holds(self._of(owner), owner, chat_id, up_to):
            raise _no_such_place()
        now = self._now()
        mark = {"outbox_delivered": {"up_to": up_to, "at": now}, documents.DELIVERED_AT: now}
        return await self._advance(owner, chat_id, "delivered_up_to", up_to, mark)

    async def advance_peer_read(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        return await self._advance(owner, chat_id, "peer_read_up_to", up_to)

    async def advance_peer_delivered(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        return await self._advance(owner, chat_id, "peer_delivered_up_to", up_to)

    async def _listed(self, owner: str, chat_id: str) -> StoredChat | None:
        """The chat, where it is there and not hidden."""
        query = {"_id": documents.chat_key(owner, chat_id), "activity": {"$exists": True}}
        found = await self._of(owner).find_one(documents.CHATS, query)
        return documents.read_chat(found) if found else None

    async def _list(self, owner: str, chat_id: str, peer_id: str, item_id: str) -> Opened:
        """Creates the owner's copy, or shows the hidden one."""
        shard, now = self._of(owner), self._now()
        update = {
            "$setOnInsert": documents.new_chat(owner, chat_id, peer_id, item_id) | documents.EMPTY_LOG,
            "$set": {"activity": now, "outbox_opened": {"at": now}},
            "$max": {"touched_at": now},
            **documents.NEXT_VERSION,
        }
        query = {"_id": documents.chat_key(owner, chat_id), "activity": {"$exists": False}}
        try:
            after = await update_chat(shard, query, update, upsert=True)
        except DuplicateKeyError:
            after = None
        if after is None:  # it is there and listed: somebody was faster
            return Opened(chat=await self._chat(owner, chat_id), created=False)
        if await blocks.flag_new(shard, [(owner, peer_id)], now):
            after = await self._chat(owner, chat_id)
        return Opened(chat=after, created=True)

    async def _hide(self, owner: str, chat_id: str, peer_id: str, item_id: str) -> None:
        """Creates the peer's hidden copy, if that is quick; the first message creates it otherwise."""
        shard, now = self._of(owner), self._now()
        created = documents.new_chat(owner, chat_id, peer_id, item_id) | documents.EMPTY_LOG
        update = {"$setOnInsert": created | {"touched_at": now}}
        query = {"_id": documents.chat_key(owner, chat_id)}
        with suppress(MessengerError, DuplicateKeyError):
            done = await shard.run(lambda: shard.chats.update_one(query, update, upsert=True), HIDDEN_COPY_S)
            if done.upserted_id is not None:
                await blocks.flag_new(shard, [(owner, peer_id)], now, HIDDEN_COPY_S)

    async def _set_pointer(
        self, chat: StoredChat, up_to: str, read: int, gone: int, head: Head
    ) -> StoredChat | None:
        """Writes the read pointer and its counts; None where another call has changed what they rest on."""
        shard, now = self._of(chat.owner), self._now()
        changed: Document = {
            "read_up_to": up_to,
            "read_seq": head.seq,
            "outbox_read": {"up_to": up_to, "seq": head.seq, "at": now},
            documents.READ_AT: now,
        }
        if read:
            changed["read_incoming"] = read
        if chat.deletions:
            changed["gone"] = gone
        forward = documents.head_fields(head) | {"touched_at": now}
        update = {"$set": changed, "$max": forward, **documents.NEXT_VERSION}
        return await update_chat(shard, documents.counted_as(chat), update)

    async def _advance(
        self, owner: str, chat_id: str, pointer: str, up_to: str, mark: Document | None = None
    ) -> Moved:
        shard = self._of(owner)
        query = {"_id": documents.chat_key(owner, chat_id), pointer: {"$not": {"$gte": up_to}}}
        update = {
            "$set": {pointer: up_to} | (mark or {}),
            "$max": {"touched_at": self._now()},
            **documents.NEXT_VERSION,
        }
        if after := await update_chat(shard, query, update):
            return Moved(chat=after, moved=True)
        return Moved(chat=await self._chat(owner, chat_id), moved=False)


async def _holds(shard: Shard, owner: str, chat_id: str, message_id: str) -> bool:
    query = {"owner": owner, "chat_id": chat_id, "message_id": message_id}
    return await shard.find_one(documents.MESSAGES, query, {"_id": 1}) is not None


def _no_such_place() -> NotFound:
    return NotFound("up_to: no such message in this chat")
