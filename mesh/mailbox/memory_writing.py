"""The store in memory: opening chats, appending, moving pointers."""

import random
from collections.abc import Sequence

from msgspec.structs import replace

from mesh.errors import IdempotencyConflict, InvalidArgument, MessengerError, NotFound
from mesh.mailbox.fold import (
    Head,
    LogEntry,
    check_incoming,
    check_new,
    check_user,
    fold,
    place_incoming,
    place_own,
    same_content,
)
from mesh.mailbox.ids import chat_id as chat_id_of
from mesh.mailbox.ids import next_message_id
from mesh.mailbox.memory_state import MemoryState, key_of, outcome_of
from mesh.mailbox.model import (
    Appended,
    IncomingMessage,
    Moved,
    NewMessage,
    Opened,
    StoredChat,
    delivered_ref,
    message_ref,
    opened_ref,
    read_ref,
)


class MemoryWriter(MemoryState):
    """`store.MailboxWriter` in memory."""

    async def open_chat(self, owner: str, peer_id: str, item_id: str = "") -> Opened:
        """See `store.MailboxWriter`."""
        check_user("owner", owner)
        check_user("peer_id", peer_id)
        if owner == peer_id:
            raise InvalidArgument("peer_id: must be somebody else")
        self._reach(owner)
        chat_id, now = chat_id_of(owner, peer_id, item_id), self._now()
        for mine, theirs in ((owner, peer_id), (peer_id, owner)):
            if self.shard_of(mine) not in self.down:
                hidden = StoredChat(
                    owner=mine, chat_id=chat_id, peer_id=theirs, item_id=item_id, touched_at=now
                )
                self._keep(self._chats.get((mine, chat_id), hidden))
        chat = self._chats[owner, chat_id]
        if chat.activity:
            return Opened(chat=chat, created=False)
        chat = self._keep(replace(chat, activity=now, touched_at=max(chat.touched_at, now)))
        self._mark(opened_ref(chat), chat)
        return Opened(chat=chat, created=True)

    async def append_own(self, messages: Sequence[NewMessage]) -> list[Appended | MessengerError]:
        """See `store.MailboxWriter`."""
        return [outcome_of(self._append_own, new) for new in messages]

    async def append_incoming(self, messages: Sequence[IncomingMessage]) -> list[Appended | MessengerError]:
        """See `store.MailboxWriter`."""
        return [outcome_of(self._append_incoming, new) for new in messages]

    async def mark_read(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        self._reach(owner)
        messages = self._messages(owner, chat_id)
        if up_to not in {message.message_id for message in messages}:
            raise NotFound("up_to: no such message in this chat")
        chat = self._chat(owner, chat_id)
        read = sum(one.sender_id != owner and one.message_id <= up_to for one in messages)
        if up_to < chat.read_up_to or (up_to, read) == (chat.read_up_to, chat.read_incoming):
            return Moved(chat=chat, moved=False)
        chat = self._keep(
            replace(
                chat,
                read_up_to=up_to,
                read_incoming=read,
                read_seq=len(messages),
                touched_at=max(chat.touched_at, self._now()),
            )
        )
        self._mark_anew(read_ref(chat), chat)
        return Moved(chat=chat, moved=True)

    async def mark_delivered(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        self._reach(owner)
        if up_to not in {message.message_id for message in self._messages(owner, chat_id)}:
            raise NotFound("up_to: no such message in this chat")
        chat = self._chat(owner, chat_id)
        if up_to <= chat.delivered_up_to:
            return Moved(chat=chat, moved=False)
        chat = self._keep(replace(chat, delivered_up_to=up_to, touched_at=max(chat.touched_at, self._now())))
        self._mark_anew(delivered_ref(chat), chat)
        return Moved(chat=chat, moved=True)

    async def advance_peer_read(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        chat = self._chat(owner, chat_id)
        if up_to <= chat.peer_read_up_to:
            return Moved(chat=chat, moved=False)
        chat = replace(chat, peer_read_up_to=up_to, touched_at=max(chat.touched_at, self._now()))
        return Moved(chat=self._keep(chat), moved=True)

    async def advance_peer_delivered(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """See `store.MailboxWriter`."""
        chat = self._chat(owner, chat_id)
        if up_to <= chat.peer_delivered_up_to:
            return Moved(chat=chat, moved=False)
        chat = replace(chat, peer_delivered_up_to=up_to, touched_at=max(chat.touched_at, self._now()))
        return Moved(chat=self._keep(chat), moved=True)

    def _append_own(self, new: NewMessage) -> Appended:
        check_new(new)
        self._reach(new.owner)
        chat = self._chat(new.owner, new.chat_id)
        for (owner, _), log in self._logs.items():
            for entry in log:
                if owner == new.owner and entry.message.client_msg_id == new.client_msg_id:
                    if not same_content(entry.message, new):
                        raise IdempotencyConflict("client_msg_id: was used for another message")
                    return Appended(message=entry.message, duplicate=True)
        if refused := self._refusal(new.owner, chat.peer_id):
            raise refused
        head, now_ns = self._head(new), self._clock()
        message_id = next_message_id(now_ns, head.top, random.getrandbits)
        entry = place_own(
            new, head, peer_id=chat.peer_id, item_id=chat.item_id, message_id=message_id, at=self._now()
        )
        stored = self._store(entry)
        self._mark(message_ref(stored.message), chat, stored.message)
        return stored

    def _append_incoming(self, new: IncomingMessage) -> Appended:
        check_incoming(new)
        self._reach(new.owner)
        for message in self._messages(new.owner, new.chat_id):
            if message.message_id == new.message_id:
                return Appended(message=message, duplicate=True)
        return self._store(place_incoming(new, self._head(new), at=self._now()))

    def _store(self, entry: LogEntry) -> Appended:
        key = key_of(entry.message)
        self._logs[key].append(entry)
        self._keep(fold(self._chats.get(key), entry, at=self._now()))
        return Appended(message=entry.message, duplicate=False)

    def _head(self, new: NewMessage | IncomingMessage) -> Head:
        log = self._logs[key_of(new)]
        return log[-1].head if log else Head()
