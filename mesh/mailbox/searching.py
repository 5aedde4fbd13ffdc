"""Searching a mailbox by reading its texts: every insert would have to pay for an index of words."""

import re

from mesh.mailbox import documents
from mesh.mailbox.cursors import parse_message_cursor
from mesh.mailbox.documents import Document
from mesh.mailbox.fold import check_query
from mesh.mailbox.model import FoundPage
from mesh.mailbox.sharded import Sharded


class MongoSearcher(Sharded):
    """The search of `store.MailboxReader` on MongoDB."""

    async def search(
        self, owner: str, query: str, *, chat_id: str = "", cursor: str = "", limit: int
    ) -> FoundPage:
        """See `store.MailboxReader`.

        Within a chat the index gives the newest first and the scan stops at a full page. Over all chats
        everything is read, and the newest of what was found are kept.
        """
        check_query(query)
        if chat_id:
            await self._require_chat(owner, chat_id)
        shard = self._of(owner)
        wanted, order = _filter(owner, query, chat_id, cursor), {"message_id": -1}
        found = await shard.find(documents.MESSAGES, wanted, limit=limit + 1, order=order, lane="scans")
        messages = list(map(documents.read_message, found))
        page = tuple(messages[:limit])
        return FoundPage(messages=page, next_cursor=page[-1].message_id if len(messages) > limit else "")


def _filter(owner: str, query: str, chat_id: str, cursor: str) -> Document:
    pattern = re.escape(query).replace("\0", r"\x00")  # BSON's patterns end at a zero byte
    wanted: Document = {"text": {"$regex": pattern, "$options": "i"}}  # what is deleted has no text
    wanted |= {"owner": owner, "chat_id": chat_id} if chat_id else {"_id": documents.under(owner)}
    return wanted | ({"message_id": {"$lt": parse_message_cursor(cursor)}} if cursor else {})
