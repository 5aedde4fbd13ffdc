"""What a mailbox takes, holds and gives. Times are UTC, cut to milliseconds; "" is an absent id or text."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import msgspec


class NewMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message that its sender, the owner, appends to the own mailbox."""

    owner: str
    chat_id: str
    text: str
    client_msg_id: str


class IncomingMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message on its way into its receiver's, the owner's, mailbox."""

    owner: str
    chat_id: str
    message_id: str
    sender_id: str
    text: str
    created_at: datetime
    item_id: str = ""
    unchecked: bool = False
    judged_at: datetime | None = None


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message, as it stands in the owner's mailbox.

    Args:
        peer_id: the other side of the chat, whoever sent the message.
        client_msg_id: the sender's idempotency key; "" on the receiver's copy.
        created_at: when the sender's mailbox took it.
        stored_at: when this mailbox took it.
        version: edits and deletions so far.
        original_text: the text as it was sent, where the sender's copy shows another or none; never shown.
        deleted: taken away, at least from this copy; `text` is "".
        deleted_for_all: its sender took it away from both copies; known on the sender's copy only.
        changed_at: when it was edited or deleted here last, or was told of long after it was stored.
        rejected: why antispam keeps it from its receiver; "" where it does not.
        edit_rejected: the latest version whose text antispam keeps from its receiver; 0 for none.
        unchecked: its text came to its receiver without a verdict of antispam's, which is to follow.
        judged_at: when antispam had the verdict that holds, or sent its text on without one; None where
            nothing tells.
    """

    owner: str
    chat_id: str
    message_id: str
    seq: int
    sender_id: str
    peer_id: str
    text: str
    created_at: datetime
    stored_at: datetime
    item_id: str = ""
    client_msg_id: str = ""
    version: int = 0
    edited_at: datetime | None = None
    deleted: bool = False
    deleted_for_all: bool = False
    original_text: str = ""
    rejected: str = ""
    edit_rejected: int = 0
    unchecked: bool = False
    judged_at: datetime | None = None
    changed_at: datetime | None = None


class StoredChat(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One chat, as it stands in the owner's mailbox.

    Args:
        version: grows with every change that the owner can see.
        seq: length of the log.
        incoming: how many of its messages the peer sent.
        top: the greatest message_id in it.
        read_incoming: how many incoming messages the owner has read.
        activity: time of its last message or of its opening, the place in the list; None while it is hidden.
        read_seq: length of the log when they were counted: what is behind it is unread wherever it sorts.
        deletions: how many incoming messages were deleted, to tell counts of before from those of after.
        gone: how many of the incoming messages that the owner has not read are deleted.
        touched_at: when anything in it changed last.
        changed_at: the latest `changed_at` of its messages.
        blocked: the owner has blocked the peer.
        blocked_by_peer: the peer has blocked the owner.
    """

    owner: str
    chat_id: str
    peer_id: str
    item_id: str = ""
    version: int = 0
    seq: int = 0
    incoming: int = 0
    top: str = ""
    last: StoredMessage | None = None
    activity: datetime | None = None
    touched_at: datetime
    changed_at: datetime | None = None
    read_up_to: str = ""
    read_incoming: int = 0
    read_seq: int = 0
    deletions: int = 0
    gone: int = 0
    peer_read_up_to: str = ""
    delivered_up_to: str = ""
    peer_delivered_up_to: str = ""
    blocked: bool = False
    blocked_by_peer: bool = False

    @property
    def unread(self) -> int:
        """Incoming messages that the owner has not read, and that are still there to be read."""
        return max(0, self.incoming - self.read_incoming - self.gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A message is in the mailbox; `duplicate` where it already was."""

    message: StoredMessage
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A chat after a pointer was asked to move; `moved` is False where that changed nothing."""

    chat: StoredChat
    moved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A chat that its owner opened; `created` is False where the owner had it in the list already."""

    chat: StoredChat
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatPage:
    """Chats, newest activity first; `next_cursor` is "" at the end."""

    chats: tuple[StoredChat, ...]
    next_cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePage:
    """Messages, oldest first; `has_more` of them lie beyond the page in the direction that was asked for."""

    messages: tuple[StoredMessage, ...]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedChat:
    """A chat that changed.

    Args:
        messages: those that came into it, oldest first, as they now stand.
        changed: older ones that were edited or deleted, by seq.
    """

    chat: StoredChat
    messages: tuple[StoredMessage, ...]
    changed: tuple[StoredMessage, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePage:
    """Changed chats; `next_page_token` is "" at the end."""

    chats: tuple[ChangedChat, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPage:
    """Messages that were searched for, newest first; `next_cursor` is "" at the end."""

    messages: tuple[StoredMessage, ...]
    next_cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedPage:
    """People whom the owner has blocked, by id; `next_cursor` is "" at the end."""

    user_ids: tuple[str, ...]
    next_cursor: str


Place = tuple[str, str, str]
"""Owner, chat_id and message_id of a message; the last is "" for the chat alone."""


class OutboxKind(StrEnum):
    """What an outbox mark promises to tell: the peer's side; OPENED and BLOCKED the owner's other devices."""

    MESSAGE = "message"
    READ = "read"
    OPENED = "opened"
    BLOCKED = "blocked"
    DELIVERED = "delivered"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRef:
    """Names one outbox mark.

    `seq` and `version` are a message's; `up_to` is the pointer that was told, or of BLOCKED names one writing
    of the flag. A READ's `seq` is the length of the log that was counted: the same place may be marked again.
    `queued_at` is when the queue took its event, known from then on; no part of its name.
    """

    kind: OutboxKind
    owner: str
    chat_id: str
    seq: int = 0
    version: int = 0
    up_to: str = ""
    queued_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """An event that the queue has not confirmed.

    Args:
        message: as it was sent (MESSAGE), or as the change left it (CHANGED).
        for_all: the deletion is one from both copies.
        traceparent: W3C trace context of the call that caused it; not stored, so that the relay's have none.
    """

    ref: OutboxRef
    at: datetime
    peer_id: str
    item_id: str
    message: StoredMessage | None = None
    for_all: bool = False
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A message after an edit or a deletion; `entry` is to be announced, None where nobody is to know."""

    message: StoredMessage
    entry: OutboxEntry | None


def message_ref(message: StoredMessage) -> OutboxRef:
    """The mark that an own message carries until its event is confirmed."""
    return OutboxRef(kind=OutboxKind.MESSAGE, owner=message.owner, chat_id=message.chat_id, seq=message.seq)


def tells_peer(message: StoredMessage) -> bool:
    """Whether the message's deletion is the peer's business: deleted for all, and the peer has a copy."""
    return message.deleted_for_all and not message.rejected


def changed_entry(message: StoredMessage, *, for_all: bool = False) -> OutboxEntry:
    """What tells of the message's last change."""
    ref = OutboxRef(
        kind=OutboxKind.CHANGED,
        owner=message.owner,
        chat_id=message.chat_id,
        seq=message.seq,
        version=message.version,
    )
    return OutboxEntry(
        ref=ref,
        at=message.changed_at or message.stored_at,
        peer_id=message.peer_id,
        item_id=message.item_id,
        message=message,
        for_all=for_all,
    )


def read_ref(chat: StoredChat) -> OutboxRef:
    """The mark of the chat's read pointer as it stands."""
    return OutboxRef(
        kind=OutboxKind.READ,
        owner=chat.owner,
        chat_id=chat.chat_id,
        seq=chat.read_seq,
        up_to=chat.read_up_to,
    )


def delivered_ref(chat: StoredChat) -> OutboxRef:
    """The mark of the chat's delivery pointer as it stands."""
    return OutboxRef(
        kind=OutboxKind.DELIVERED, owner=chat.owner, chat_id=chat.chat_id, up_to=chat.delivered_up_to
    )


def blocked_ref(chat: StoredChat, writing: str) -> OutboxRef:
    """The mark of one writing of the chat's blocked flag."""
    return OutboxRef(kind=OutboxKind.BLOCKED, owner=chat.owner, chat_id=chat.chat_id, up_to=writing)


def opened_ref(chat: StoredChat) -> OutboxRef:
    """The mark of the chat's opening."""
    return OutboxRef(kind=OutboxKind.OPENED, owner=chat.owner, chat_id=chat.chat_id)
