"""The mailbox store in memory: for tests of services. The contract suite holds it to the same promises."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

from mesh.errors import IdempotencyConflict, InvalidArgument, MessengerError, NotFound, Unavailable
from mesh.mailbox.buckets import BucketMap
from mesh.mailbox.cursors import changes_token, list_cursor, parse_changes_token, parse_list_cursor
from mesh.mailbox.fold import (
    Head,
    LogEntry,
    check_incoming,
    check_new,
    check_user,
    fold,
    from_ns,
    place_incoming,
    place_own,
    same_content,
)
from mesh.mailbox.ids import chat_id as chat_id_of
from mesh.mailbox.ids import next_message_id
from mesh.mailbox.model import (
    Appended,
    ChangedChat,
    ChangePage,
    ChatPage,
    IncomingMessage,
    MessagePage,
    Moved,
    NewMessage,
    Opened,
    OutboxEntry,
    OutboxKind,
    OutboxRef,
    StoredChat,
    StoredMessage,
    message_ref,
    opened_ref,
    read_ref,
)
from mesh.mailbox.store import CHATS_A_PAGE, MESSAGES_A_PAGE

Key = tuple[str, str]
Given = ParamSpec("Given")
Result = TypeVar("Result")


class MemoryMailbox:
    """`store.MailboxStore` in memory.

    Args:
        shards: how many there seem to be.
        clock: nanoseconds since 1970.

    A shard whose index is in `down` does not answer.
    """

    def __init__(self, shards: int = 1, clock: Callable[[], int] = time.time_ns) -> None:
        self.down: set[int] = set()
        self._buckets = BucketMap.even(shards)
        self._shards = shards
        self._clock = clock
        self._logs: dict[Key, list[LogEntry]] = defaultdict(list)
        self._chats: dict[Key, StoredChat] = {}
        self._outbox: dict[OutboxRef, OutboxEntry] = {}
        self._leases: dict[tuple[int, str], tuple[str, datetime]] = {}

    @property
    def shard_count(self) -> int:
        """See `store.Outbox`."""
        return self._shards

    def shard_of(self, owner: str) -> int:
        """See `store.MailboxStore`."""
        return self._buckets.node_of(owner)

    async def get_chats(self, keys: Sequence[Key]) -> list[StoredChat | MessengerError]:
        """See `store.MailboxReader`."""
        return [_result(self._chat, *key) for key in keys]

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
            fresh = [one for one in self._messages(owner, chat.chat_id) if one.stored_at >= since]
            if chat.chat_id == start:
                fresh = [one for one in fresh if one.seq < below]
            page = fresh[-room:]
            changed.append(ChangedChat(chat=chat, messages=tuple(page)))
            if len(fresh) > room:
                token = changes_token(chat.chat_id, page[0].seq)
                return ChangePage(chats=tuple(changed), next_page_token=token)
            room -= len(page)
        more = len(chats) > len(changed)
        token = changes_token(changed[-1].chat.chat_id) if more else ""
        return ChangePage(chats=tuple(changed), next_page_token=token)

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
                self._chats.setdefault((mine, chat_id), hidden)
        chat = self._chats[owner, chat_id]
        if chat.activity:
            return Opened(chat=chat, created=False)
        chat = self._keep(replace(chat, activity=now, touched_at=max(chat.touched_at, now)))
        self._mark(opened_ref(chat), chat)
        return Opened(chat=chat, created=True)

    async def append_own(self, messages: Sequence[NewMessage]) -> list[Appended | MessengerError]:
        """See `store.MailboxWriter`."""
        return [_result(self._append_own, new) for new in messages]

    async def append_incoming(self, messages: Sequence[IncomingMessage]) -> list[Appended | MessengerError]:
        """See `store.MailboxWriter`."""
        return [_result(self._append_incoming, new) for new in messages]

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
        moved = up_to > chat.read_up_to
        chat = self._keep(
            replace(chat, read_up_to=up_to, read_incoming=read, touched_at=max(chat.touched_at, self._now()))
        )
        if moved:
            for ref in [
                ref for ref in self._outbox if ref.kind is OutboxKind.READ and _key(ref) == _key(chat)
            ]:
                del self._outbox[ref]
            self._mark(read_ref(chat), chat)
        return Moved(chat=chat, moved=moved)

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

    async def due(self, shard: int, older_than: timedelta, limit: int) -> list[OutboxEntry]:
        """See `store.Outbox`."""
        if shard in self.down:
            raise _unavailable()
        until = self._now() - older_than
        entries = [
            entry
            for entry in self._outbox.values()
            if self.shard_of(entry.ref.owner) == shard and entry.at <= until
        ]
        entries.sort(key=lambda entry: entry.at)
        return [entry for kind in OutboxKind for entry in [e for e in entries if e.ref.kind is kind][:limit]]

    async def confirm(self, refs: Sequence[OutboxRef]) -> None:
        """See `store.Outbox`."""
        for ref in refs:
            if self.shard_of(ref.owner) not in self.down:
                self._outbox.pop(ref, None)

    async def lease(self, shard: int, work: str, holder: str, length: timedelta) -> bool:
        """See `leases.Leases`."""
        if shard in self.down:
            raise _unavailable()
        now = self._now()
        other, until = self._leases.get((shard, work), (holder, now))
        if other != holder and until > now:
            return False
        self._leases[shard, work] = holder, now + length
        return True

    async def ensure_schema(self) -> None:
        """See `store.MailboxStore`."""
        if self.down:
            raise _unavailable()

    async def ping(self) -> tuple[bool, ...]:
        """See `store.MailboxStore`."""
        return tuple(shard not in self.down for shard in range(self._shards))

    async def aclose(self) -> None:
        """See `store.MailboxStore`."""

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
        key = _key(entry.message)
        self._logs[key].append(entry)
        self._chats[key] = fold(self._chats.get(key), entry, at=self._now())
        return Appended(message=entry.message, duplicate=False)

    def _head(self, new: NewMessage | IncomingMessage) -> Head:
        log = self._logs[_key(new)]
        return log[-1].head if log else Head()

    def _messages(self, owner: str, chat_id: str) -> list[StoredMessage]:
        return [entry.message for entry in self._logs[owner, chat_id]]

    def _chat(self, owner: str, chat_id: str) -> StoredChat:
        self._reach(owner)
        if (owner, chat_id) not in self._chats:
            raise NotFound("chat_id: no such chat in your mailbox")
        return self._chats[owner, chat_id]

    def _keep(self, chat: StoredChat) -> StoredChat:
        self._chats[_key(chat)] = chat
        return chat

    def _mark(self, ref: OutboxRef, chat: StoredChat, message: StoredMessage | None = None) -> None:
        at = message.stored_at if message else self._now()
        self._outbox[ref] = OutboxEntry(
            ref=ref, at=at, peer_id=chat.peer_id, item_id=chat.item_id, message=message
        )

    def _reach(self, owner: str) -> None:
        if self.shard_of(owner) in self.down:
            raise _unavailable()

    def _now(self) -> datetime:
        return from_ns(self._clock())


def _key(thing: NewMessage | IncomingMessage | StoredMessage | StoredChat | OutboxRef) -> Key:
    return thing.owner, thing.chat_id


def _list_order(place: tuple[datetime, StoredChat]) -> tuple[float, str]:
    return -place[0].timestamp(), place[1].chat_id


def _result(
    call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result | MessengerError:
    try:
        return call(*args, **kwargs)
    except MessengerError as error:
        return error


def _unavailable() -> Unavailable:
    return Unavailable("The mailbox does not answer; try again.")
