"""The store in memory: reading."""

from collections.abc import Sequence
from datetime import datetime

from mesh.errors import InvalidArgument, MessengerError
from mesh.mailbox.changes import changed_chat
from mesh.mailbox.cursors import (
    changes_token,
    list_cursor,
    parse_changes_token,
    parse_list_cursor,
    parse_message_cursor,
)
from mesh.mailbox.fold import check_query
from mesh.mailbox.memory_state import Key, MemoryState, outcome_of
from mesh.mailbox.model import ChangedChat, ChangePage, ChatPage, FoundPage, MessagePage, StoredChat
from mesh.mailbox.store import CHATS_A_PAGE, MESSAGES_A_PAGE


class MemoryReader(MemoryState):
    """`store.MailboxReader` in memory."""

    async def get_chats(self, keys: Sequence[Key]) -> list[StoredChat | MessengerError]:
        """See `store.MailboxReader`."""
        return [outcome_of(self._chat, *key) for key in keys]

    async def list_chats(self, owner: str, cursor: str, limit: int) -> ChatPage:
        """See `store.MailboxReader`."""
        self._reach(owner)
        listed = [(chat.activity, chat) for (of, _), chat in self._chats.items() if of == owner]
        places = sorted(((at, chat) for at, chat in listed if at), key=_list_order)
        if cursor:
            activity, chat_id = parse_list_cursor(cursor)
            places = [place for place in places if _list_order(place) > (-activity.timestamp(), chat_id)]
        page = places[:limit]
        ended = list_cursor(page[-1][0], page[-1][1].chat_id) if len(places) > limit else ""
        return ChatPage(chats=tuple(chat for _, chat in page), next_cursor=ended)

    async def history(
        self, owner: str, chat_id: str, *, before: str = "", after: str = "", limit: int
    ) -> MessagePage:
        """See `store.MailboxReader`."""
        if before and after:
            raise InvalidArgument("before, after: give at most one of the two")
        self._chat(owner, chat_id)
        ordered = sorted(self._messages(owner, chat_id), key=lambda message: message.message_id)
        asked = [one for one in ordered if one.message_id > after and (not before or one.message_id < before)]
        page = asked[:limit] if after else asked[-limit:]
        return MessagePage(messages=tuple(page), has_more=len(asked) > limit)

    async def changes(self, owner: str, since: datetime, page_token: str) -> ChangePage:
        """See `store.MailboxReader`."""
        self._reach(owner)
        start, below = parse_changes_token(page_token) if page_token else ("", 0)
        chats = [
            chat
            for (of, chat_id), chat in sorted(self._chats.items())
            if of == owner and chat.activity and chat.touched_at >= since
            and (chat_id > start or (below and chat_id == start))
        ]  # fmt: skip
        changed: list[ChangedChat] = []
        room = MESSAGES_A_PAGE
        for chat in chats[:CHATS_A_PAGE]:
            if not room:
                break
            told = [
                one
                for one in reversed(self._messages(owner, chat.chat_id))
                if one.stored_at >= since or (one.changed_at and one.changed_at >= since)
            ]
            if below and chat.chat_id == start:
                told = [one for one in told if one.seq < below]
            page = told[:room]
            changed.append(changed_chat(chat, page, since))
            if len(told) > room:
                token = changes_token(chat.chat_id, page[-1].seq)
                return ChangePage(chats=tuple(changed), next_page_token=token)
            room -= len(page)
        more = len(chats) > len(changed)
        token = changes_token(changed[-1].chat.chat_id) if more else ""
        return ChangePage(chats=tuple(changed), next_page_token=token)

    async def search(
        self, owner: str, query: str, *, chat_id: str = "", cursor: str = "", limit: int
    ) -> FoundPage:
        """See `store.MailboxReader`."""
        check_query(query)
        before = parse_message_cursor(cursor) if cursor else "~"
        self._reach(owner)
        if chat_id:
            self._chat(owner, chat_id)
        found = [
            one
            for (of, chat), log in self._logs.items()
            if of == owner and (not chat_id or chat == chat_id)
            for one in (entry.message for entry in log)
            if one.message_id < before and query.lower() in one.text.lower()
        ]
        found.sort(key=lambda message: message.message_id, reverse=True)
        page = tuple(found[:limit])
        return FoundPage(messages=page, next_cursor=page[-1].message_id if len(found) > limit else "")


def _list_order(place: tuple[datetime, StoredChat]) -> tuple[float, str]:
    return -place[0].timestamp(), place[1].chat_id
