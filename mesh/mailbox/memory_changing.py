"""The store in memory: changing messages, and blocks."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec.structs import replace

from mesh.errors import InvalidArgument, MessengerError, NotFound
from mesh.mailbox import changes
from mesh.mailbox.cursors import parse_user_cursor
from mesh.mailbox.fold import LogEntry, check_text, check_user, fold
from mesh.mailbox.memory_state import Key, MemoryState, key_of, outcome_of
from mesh.mailbox.model import (
    BlockedPage,
    Changed,
    OutboxEntry,
    OutboxKind,
    Place,
    StoredMessage,
    blocked_ref,
    changed_entry,
    tells_peer,
)


class MemoryChanger(MemoryState):
    """`store.MailboxChanger` in memory."""

    async def edit(self, owner: str, chat_id: str, message_id: str, text: str) -> Changed:
        """See `store.MailboxChanger`."""
        check_text("text", text)
        before = self._message(owner, chat_id, message_id)
        after = changes.edited(before, text, at=self._now())
        if refused := self._refusal(owner, before.peer_id):
            raise refused
        self._replace(after)
        if after == before:
            return Changed(message=after, entry=None)
        return self._announced(after, changed_entry(after), replaces=_is_edit)

    async def delete(self, owner: str, chat_id: str, message_id: str, *, for_all: bool) -> Changed:
        """See `store.MailboxChanger`."""
        before = self._message(owner, chat_id, message_id)
        after = changes.deleted(before, for_all=for_all, at=self._now())
        self._replace(after)
        if after == before:
            return Changed(message=after, entry=None)
        entry = changed_entry(after, for_all=tells_peer(after))
        return self._announced(after, entry, replaces=lambda other: for_all or not _is_edit(other))

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
        copy = self._message(owner, chat_id, message_id)
        return self._replace(
            changes.with_edit(
                copy,
                text=text,
                edited_at=edited_at,
                version=version,
                unchecked=unchecked,
                judged_at=judged_at,
                at=self._now(),
            )
        )

    async def apply_removal(
        self, owner: str, chat_id: str, message_id: str, *, version: int
    ) -> StoredMessage:
        """See `store.MailboxChanger`."""
        copy = self._message(owner, chat_id, message_id)
        return self._replace(changes.removed(copy, version=version, at=self._now()))

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
        copy = self._message(owner, chat_id, message_id)
        at = self._now()
        return self._replace(changes.judged(copy, version=version, spam=spam, at=at, judged_at=judged_at))

    async def touch(self, places: Sequence[Place]) -> list[MessengerError | None]:
        """See `store.MailboxChanger`."""
        return [outcome_of(self._touch, *place) for place in places]

    def _touch(self, owner: str, chat_id: str, message_id: str) -> None:
        self._reach(owner)
        at = self._now()
        for message in self._messages(owner, chat_id):
            if message.message_id == message_id:
                self._put(replace(message, changed_at=max(message.changed_at or at, at)))
        if chat := self._chats.get((owner, chat_id)):
            touched_at, changed_at = max(chat.touched_at, at), max(chat.changed_at or at, at)
            self._chats[owner, chat_id] = replace(chat, touched_at=touched_at, changed_at=changed_at)

    async def are_rejected(self, places: Sequence[Place]) -> list[bool | MessengerError]:
        """See `store.MailboxChanger`."""
        messages = [outcome_of(self._message, *place) for place in places]
        return [one if isinstance(one, MessengerError) else bool(one.rejected) for one in messages]

    async def record_rejection(
        self, owner: str, chat_id: str, message_id: str, reason: str, judged_at: datetime | None = None
    ) -> None:
        """See `store.MailboxChanger`."""
        message = self._message(owner, chat_id, message_id)
        at = message.judged_at or judged_at or self._now()
        self._put(replace(message, rejected=message.rejected or reason, judged_at=at))

    async def record_rejected_edit(self, owner: str, chat_id: str, message_id: str, version: int) -> None:
        """See `store.MailboxChanger`."""
        message = self._message(owner, chat_id, message_id)
        self._put(replace(message, edit_rejected=max(message.edit_rejected, version)))

    def _message(self, owner: str, chat_id: str, message_id: str) -> StoredMessage:
        self._reach(owner)
        for message in self._messages(owner, chat_id):
            if message.message_id == message_id:
                return message
        raise NotFound("message_id: no such message in this chat")

    def _replace(self, message: StoredMessage) -> StoredMessage:
        entry = self._put(message)
        at = message.changed_at or message.stored_at
        self._keep(fold(self._chats.get(key_of(message)), entry, at=at))
        return message

    def _put(self, message: StoredMessage) -> LogEntry:
        log = self._logs[key_of(message)]
        log[message.seq - 1] = LogEntry(message=message, head=log[message.seq - 1].head)
        return log[message.seq - 1]

    def _announced(
        self, message: StoredMessage, entry: OutboxEntry, *, replaces: Callable[[OutboxEntry], bool]
    ) -> Changed:
        place = (OutboxKind.CHANGED, *key_of(message), message.seq)
        self._unmark(
            lambda other: (other.ref.kind, *key_of(other.ref), other.ref.seq) == place and replaces(other)
        )
        self._outbox[entry.ref] = entry
        return Changed(message=message, entry=entry)


class MemoryBlocks(MemoryState):
    """`store.Blocks` in memory."""

    async def set_blocked(self, owner: str, user_id: str, *, blocked: bool) -> list[OutboxEntry]:
        """See `store.Blocks`."""
        check_user("owner", owner)
        check_user("user_id", user_id)
        if owner == user_id:
            raise InvalidArgument("user_id: must be somebody else")
        self._reach(owner)
        self._reach(user_id)
        (self._blocks.add if blocked else self._blocks.discard)((owner, user_id))
        for chat in list(self._chats.values()):
            if (chat.owner, chat.peer_id) == (owner, user_id) and chat.blocked != blocked:
                chat = self._keep(replace(chat, touched_at=max(chat.touched_at, self._now())))
                self._mark_anew(blocked_ref(chat, secrets.token_hex(8)), chat)
            elif (chat.peer_id, chat.owner) == (owner, user_id):
                self._keep(chat)
        return [
            entry
            for entry in self._outbox.values()
            if entry.ref.kind is OutboxKind.BLOCKED and (entry.ref.owner, entry.peer_id) == (owner, user_id)
        ]

    async def list_blocked(self, owner: str, cursor: str, limit: int) -> BlockedPage:
        """See `store.Blocks`."""
        self._reach(owner)
        after = parse_user_cursor(cursor) if cursor else ""
        users = sorted(user for by, user in self._blocks if by == owner and user > after)
        page = tuple(users[:limit])
        return BlockedPage(user_ids=page, next_cursor=page[-1] if len(users) > limit else "")

    async def blocked_among(self, owner: str, user_ids: Sequence[str]) -> frozenset[str]:
        """See `store.Blocks`."""
        self._reach(owner)
        pairs: list[tuple[str, Key, Key]] = [(user, (owner, user), (user, owner)) for user in user_ids]
        return frozenset(user for user, out, back in pairs if {out, back} & self._blocks)


def _is_edit(entry: OutboxEntry) -> bool:
    return entry.message is not None and not entry.message.deleted
