"""Reading a mailbox: chats, lists, history, what changed. One query each, but for what changed."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from mesh.errors import InvalidArgument, MessengerError
from mesh.mailbox import documents
from mesh.mailbox.changes import changed_chat
from mesh.mailbox.cursors import changes_token, list_cursor, parse_changes_token, parse_list_cursor
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import Shard
from mesh.mailbox.model import ChangedChat, ChangePage, ChatPage, MessagePage, StoredChat, StoredMessage
from mesh.mailbox.sharded import Sharded, no_such_chat
from mesh.mailbox.store import CHATS_A_PAGE, MESSAGES_A_PAGE

# Chats that are looked up together: all fit into one reply, whatever was written in them last.
CHATS_A_FIND = 256
# Messages a step while walking back through a log.
STEP = 50


class MongoReader(Sharded):
    """`store.MailboxReader` on MongoDB."""

    async def get_chats(self, keys: Sequence[tuple[str, str]]) -> list[StoredChat | MessengerError]:
        """See `store.MailboxReader`."""
        results: list[StoredChat | MessengerError] = [no_such_chat() for _ in keys]

        async def of_shard(shard: Shard, positions: list[int]) -> None:
            wanted: dict[str, list[int]] = defaultdict(list)
            for index in positions:
                wanted[documents.chat_key(*keys[index])].append(index)
            try:
                found = await _find(shard, {"_id": {"$in": list(wanted)}}, len(wanted))
            except MessengerError as error:
                for index in positions:
                    results[index] = error
                return
            for chat in found:
                for index in wanted[documents.chat_key(chat.owner, chat.chat_id)]:
                    results[index] = chat

        grouped = self._by_shard([owner for owner, _ in keys])
        await asyncio.gather(
            *(
                of_shard(self._shards[shard], at[start : start + CHATS_A_FIND])
                for shard, at in grouped.items()
                for start in range(0, len(at), CHATS_A_FIND)
            )
        )
        return results

    async def list_chats(self, owner: str, cursor: str, limit: int) -> ChatPage:
        """See `store.MailboxReader`."""
        query: Document = {"owner": owner, "activity": {"$exists": True}}
        if cursor:
            activity, chat_id = parse_list_cursor(cursor)
            query["activity"] = {"$lte": activity}
            query["$or"] = [{"activity": {"$lt": activity}}, {"chat_id": {"$gt": chat_id}}]
        chats = await _find(self._of(owner), query, limit + 1, {"activity": -1, "chat_id": 1})
        page = chats[:limit]
        more = len(chats) > limit
        # Whatever is listed has an activity.
        ended = list_cursor(page[-1].activity or page[-1].touched_at, page[-1].chat_id) if more else ""
        return ChatPage(chats=tuple(page), next_cursor=ended)

    async def history(
        self, owner: str, chat_id: str, *, before: str = "", after: str = "", limit: int
    ) -> MessagePage:
        """See `store.MailboxReader`."""
        if before and after:
            raise InvalidArgument("before, after: give at most one of the two")
        await self._require_chat(owner, chat_id)
        query: Document = {"owner": owner, "chat_id": chat_id}
        if before or after:
            query["message_id"] = {"$lt": before} if before else {"$gt": after}
        order = {"message_id": 1 if after else -1}
        batch = await self._of(owner).find(documents.MESSAGES, query, limit=limit + 1, order=order)
        found = list(map(documents.read_message, batch))
        page = found[:limit] if after else found[:limit][::-1]
        return MessagePage(messages=tuple(page), has_more=len(found) > limit)

    async def changes(self, owner: str, since: datetime, page_token: str) -> ChangePage:
        """See `store.MailboxReader`.

        Chats in the order of their ids, which stays as it is while activity goes on; within a chat the
        greatest seq first, so that one place tells where the page ended.
        """
        start, below = parse_changes_token(page_token) if page_token else ("", 0)
        key = documents.under(owner)
        if start:
            key["$gte" if below else "$gt"] = documents.chat_key(owner, start)
        query = {"_id": key, "activity": {"$exists": True}, "touched_at": {"$gte": since}}
        chats = await _find(self._of(owner), query, CHATS_A_PAGE + 1, {"_id": 1})
        changed: list[ChangedChat] = []
        room = MESSAGES_A_PAGE
        for chat in chats[:CHATS_A_PAGE]:
            if not room:
                break
            limit_seq = below if chat.chat_id == start else 0
            messages = await self._stored_since(chat, since, limit_seq, room + 1)
            messages += await self._changed_since(chat, since, limit_seq, room + 1)
            messages.sort(key=lambda message: -message.seq)
            changed.append(changed_chat(chat, messages[:room], since))
            if len(messages) > room:
                token = changes_token(chat.chat_id, messages[room - 1].seq)
                return ChangePage(chats=tuple(changed), next_page_token=token)
            room -= len(messages)
        more = len(chats) > len(changed)
        token = changes_token(changed[-1].chat.chat_id) if more else ""
        return ChangePage(chats=tuple(changed), next_page_token=token)

    async def _stored_since(
        self, chat: StoredChat, since: datetime, below: int, limit: int
    ) -> list[StoredMessage]:
        """The chat's newest messages stored since then, newest first: walks back until they are older."""
        shard = self._of(chat.owner)
        key = documents.under(documents.chat_key(chat.owner, chat.chat_id))
        found: list[StoredMessage] = []
        while len(found) < limit:
            if below:
                key["$lt"] = documents.message_key(chat.owner, chat.chat_id, below)
            step = min(STEP, limit - len(found))
            newest = await shard.find(documents.MESSAGES, {"_id": key}, limit=step, order={"_id": -1})
            batch = list(map(documents.read_message, newest))
            fresh = [message for message in batch if message.stored_at >= since]
            found += fresh
            if len(fresh) < step:
                break
            below = batch[-1].seq
        return found

    async def _changed_since(
        self, chat: StoredChat, since: datetime, below: int, limit: int
    ) -> list[StoredMessage]:
        """Messages stored before and changed since then, newest first; costs nothing where there are none."""
        if not chat.changed_at or chat.changed_at < since:
            return []
        query: Document = {
            "owner": chat.owner,
            "chat_id": chat.chat_id,
            "changed_at": {"$gte": since},
            "stored_at": {"$lt": since},
        }
        if below:
            query["seq"] = {"$lt": below}
        shard = self._of(chat.owner)
        found = await shard.find(documents.MESSAGES, query, limit=limit, order={"seq": -1})
        return list(map(documents.read_message, found))


async def _find(shard: Shard, query: Document, limit: int, order: Document | None = None) -> list[StoredChat]:
    return list(map(documents.read_chat, await shard.find(documents.CHATS, query, limit=limit, order=order)))
