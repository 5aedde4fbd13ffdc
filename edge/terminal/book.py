"""What one user knows of chats and messages. Pure: no clock, no connection, no screen.

Everything may arrive twice, late or out of order; what it holds in the end is the same. Of each chat it holds
the messages from some point on without a hole, or none.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from edge.terminal.shapes import Chat, Item, Message, Peer, Presence

MOST_CHANGED = 500
"""Changes that are remembered at most; of what is longer past nothing older is on its way any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message that the server has not accepted yet.

    Attributes:
        client_msg_id: the same at every attempt, so that it becomes one message whatever happens.
        error: why it is not sent; empty while it is on its way.
        again: it failed for want of time or connection: it goes again by itself in the next session.
    """

    chat_id: str
    text: str
    client_msg_id: str
    created_at: datetime
    error: str = ""
    again: bool = False


class Book:
    """Chats, messages and people, as `me` sees them.

    Attributes:
        chats: by chat_id.
        outgoing: by client_msg_id, in the order of sending.
        presence: by user_id.
        typing: user_id by chat_id.
        next_cursor: of the chat list: None before its first page, "" at its end.
        degraded: the parts that the last list of chats went without.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self.chats: dict[str, Chat] = {}
        self.outgoing: dict[str, Outgoing] = {}
        self.presence: dict[str, Presence] = {}
        self.typing: dict[str, str] = {}
        self.next_cursor: str | None = None
        self.degraded: list[str] = []
        self._messages: dict[str, dict[str, Message]] = defaultdict(dict)
        self._order: dict[str, list[str]] = defaultdict(list)
        self._more: dict[str, bool] = {}
        # What was told of messages: a page that was read before may still come. None: deleted.
        self._changed: dict[str, Message | None] = {}

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────

    def listed(self) -> list[Chat]:
        """All chats, newest activity first."""
        return sorted(self.chats.values(), key=lambda chat: (_active(chat), chat.chat_id), reverse=True)

    def messages(self, chat_id: str) -> list[Message]:
        """What is held of a chat, in display order."""
        held = self._messages[chat_id]
        return [held[message_id] for message_id in self._order[chat_id]]

    def message(self, chat_id: str, message_id: str) -> Message | None:
        """One message, where it is held."""
        return self._messages[chat_id].get(message_id)

    def oldest(self, chat_id: str) -> str:
        """The message_id that older pages come before; empty where nothing is held."""
        order = self._order[chat_id]
        return order[0] if order else ""

    def is_loaded(self, chat_id: str) -> bool:
        """Whether the newest page has been read."""
        return chat_id in self._more

    def has_more(self, chat_id: str) -> bool:
        """Whether there are older messages than those that are held."""
        return self._more.get(chat_id, False)

    def waiting(self, chat_id: str) -> list[Outgoing]:
        """What is on its way into a chat, or failed."""
        return [one for one in self.outgoing.values() if one.chat_id == chat_id]

    def last_own(self, chat_id: str) -> Message | None:
        """The newest message of one's own that can be edited."""
        own = (one for one in reversed(self.messages(chat_id)) if one.sender_id == self.me)
        return next((one for one in own if not one.deleted), None)

    def last_incoming(self, chat_id: str) -> Message | None:
        """The newest message of the peer's."""
        return next((one for one in reversed(self.messages(chat_id)) if one.sender_id != self.me), None)

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────

    def put_chat(self, chat: Chat) -> None:
        """Takes a state of a chat; an older one than is known fills in names alone."""
        if chat.last_message:
            chat = msgspec.structs.replace(chat, last_message=self._current(chat.last_message))
        old = self.chats.get(chat.chat_id)
        if old is None:
            self.chats[chat.chat_id] = chat
            return
        newer, other = (chat, old) if chat.version >= old.version else (old, chat)
        self.chats[chat.chat_id] = msgspec.structs.replace(
            newer,
            peer=_named_peer(newer.peer, other.peer),
            item=_named_item(newer.item, other.item),
            last_message=_later(old.last_message, chat.last_message),
            read_up_to=max(old.read_up_to, chat.read_up_to),
            peer_read_up_to=max(old.peer_read_up_to, chat.peer_read_up_to),
            peer_delivered_up_to=max(old.peer_delivered_up_to, chat.peer_delivered_up_to),
        )

    def put_message(self, message: Message) -> None:
        """Takes a message that is newer than those that are held, or another state of one."""
        self._insert(message)
        self.outgoing.pop(message.client_msg_id, None)
        if self.typing.get(message.chat_id) == message.sender_id:
            del self.typing[message.chat_id]
        if chat := self.chats.get(message.chat_id):
            last = _later(chat.last_message, self._current(message))
            self.chats[message.chat_id] = msgspec.structs.replace(chat, last_message=last)

    def change_message(self, message: Message) -> None:
        """Takes another state of a message, where it is held or is the last one of its chat."""
        self._remember(message.message_id, self._current(message))
        if message.message_id in self._messages[message.chat_id]:
            self._insert(message)
        chat = self.chats.get(message.chat_id)
        if chat and chat.last_message and chat.last_message.message_id == message.message_id:
            last = _merged(chat.last_message, message)
            self.chats[message.chat_id] = msgspec.structs.replace(chat, last_message=last)

    def take_back(self, shown: Message, before: Message) -> None:
        """A change that was shown at once has not come about; what has changed otherwise since then stays."""
        if self._changed.get(shown.message_id) == shown:
            self._changed[shown.message_id] = before
        if self.message(shown.chat_id, shown.message_id) == shown:
            self._messages[shown.chat_id][shown.message_id] = before
        chat = self.chats.get(shown.chat_id)
        if chat and chat.last_message == shown:
            self.chats[shown.chat_id] = msgspec.structs.replace(chat, last_message=before)

    def delete_message(self, chat_id: str, message_id: str) -> None:
        """A message was taken away; its place stays."""
        chat = self.chats.get(chat_id)
        last = chat.last_message if chat else None
        shown = last if last and last.message_id == message_id else None
        if known := self.message(chat_id, message_id) or shown:
            self.change_message(_gone(known))
        self._remember(message_id, None)

    def put_page(self, chat_id: str, messages: Iterable[Message], *, more: bool) -> None:
        """Takes the newest page of a chat, or the one before what is held; `more` is before it."""
        for message in messages:
            self._insert(message)
            self.outgoing.pop(message.client_msg_id, None)
        self._more[chat_id] = more

    def forget(self, chat_id: str = "") -> None:
        """Drops the messages of one chat, or of all, which may have holes."""
        for one in [chat_id] if chat_id else list(self._messages):
            self._messages.pop(one, None)
            self._order.pop(one, None)
            self._more.pop(one, None)

    def receipt(self, kind: str, chat_id: str, user_id: str, up_to: str) -> None:
        """A pointer moved: `kind` is `read` or `delivered`."""
        chat = self.chats.get(chat_id)
        if chat is None or (user_id == self.me and kind != "read"):
            return
        name = "read_up_to" if user_id == self.me else f"peer_{kind}_up_to"
        pointer = max(getattr(chat, name), up_to)
        self.chats[chat_id] = msgspec.structs.replace(chat, **{name: pointer})

    def block(self, user_id: str, *, blocked: bool) -> None:
        """One has blocked a person, or does so no more."""
        for chat in self.chats.values():
            if chat.peer.user_id == user_id:
                self.chats[chat.chat_id] = msgspec.structs.replace(chat, blocked=blocked)
        self.presence.pop(user_id, None)

    # ── what goes out ───────────────────────────────────────────────────────────────────────────────────────

    def queue(self, outgoing: Outgoing) -> None:
        """A message is on its way, for the first time or again."""
        self.outgoing[outgoing.client_msg_id] = replace(outgoing, error="", again=False)

    def fail(self, client_msg_id: str, error: str, *, again: bool) -> None:
        """A message was not sent."""
        if one := self.outgoing.get(client_msg_id):
            self.outgoing[client_msg_id] = replace(one, error=error, again=again)

    def drop(self, client_msg_id: str) -> None:
        """A message is not to be sent any more."""
        self.outgoing.pop(client_msg_id, None)

    def _insert(self, message: Message) -> None:
        held, order = self._messages[message.chat_id], self._order[message.chat_id]
        old = held.get(message.message_id)
        held[message.message_id] = _merged(old, self._current(message))
        if old is None:
            insort(order, message.message_id)

    def _remember(self, message_id: str, state: Message | None) -> None:
        self._changed.pop(message_id, None)
        self._changed[message_id] = state
        if len(self._changed) > MOST_CHANGED:
            del self._changed[next(iter(self._changed))]

    def _current(self, message: Message) -> Message:
        """A message as it stands by what has been told of it meanwhile."""
        if message.message_id not in self._changed:
            return message
        known = self._changed[message.message_id]
        return _gone(message) if known is None else _merged(known, message)


def _gone(message: Message) -> Message:
    return msgspec.structs.replace(message, text="", deleted=True)


def _active(chat: Chat) -> datetime:
    return chat.last_message.created_at if chat.last_message else chat.updated_at


def _merged(old: Message | None, new: Message) -> Message:
    """Of two states of one message the one that changed last; what is deleted stays so."""
    if old is None:
        return new
    kept = old if old.deleted or (_edited(old) > _edited(new) and not new.deleted) else new
    return msgspec.structs.replace(kept, client_msg_id=old.client_msg_id or new.client_msg_id)


def _edited(message: Message) -> float:
    return message.edited_at.timestamp() if message.edited_at else 0.0


def _later(one: Message | None, other: Message | None) -> Message | None:
    if one is None or other is None:
        return one or other
    if one.message_id == other.message_id:
        return _merged(one, other)
    return max(one, other, key=lambda message: message.message_id)


def _named_peer(peer: Peer, other: Peer) -> Peer:
    return peer if peer.name else other


def _named_item(item: Item | None, other: Item | None) -> Item | None:
    return item if item and item.title else other or item
