"""What a mailbox takes, holds and gives. Times are UTC, cut to milliseconds; "" is an absent id or text."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message that its sender, the owner, appends to the own mailbox."""

    owner: str
    chat_id: str
    text: str
    client_msg_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingMessage:
    """A message on its way into its receiver's, the owner's, mailbox."""

    owner: str
    chat_id: str
    message_id: str
    sender_id: str
    text: str
    created_at: datetime
    item_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One message, as it stands in the owner's mailbox.

    Args:
        peer_id: the other side of the chat, whoever sent the message.
        client_msg_id: the sender's idempotency key; "" on the receiver's copy.
        created_at: when the sender's mailbox took it.
        stored_at: when this mailbox took it.
        version: edits and deletions so far.
        original_text: the text as it was sent, kept where an edit has replaced it; "" otherwise.
        rejected: why antispam keeps it from its receiver; "" where it does not.
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
    original_text: str = ""
    rejected: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChat:
    """One chat, as it stands in the owner's mailbox.

    Args:
        seq: length of the log.
        incoming: how many of its messages the peer sent.
        top: the greatest message_id in it.
        read_incoming: how many incoming messages the owner has read.
        activity: time of its last message or of its opening, the place in the list; None while it is hidden.
        touched_at: when anything in it changed last.
        blocked: the owner has blocked the peer.
        blocked_by_peer: the peer has blocked the owner.
    """

    owner: str
    chat_id: str
    peer_id: str
    item_id: str = ""
    seq: int = 0
    incoming: int = 0
    top: str = ""
    last: StoredMessage | None = None
    activity: datetime | None = None
    touched_at: datetime
    read_up_to: str = ""
    read_incoming: int = 0
    peer_read_up_to: str = ""
    delivered_up_to: str = ""
    peer_delivered_up_to: str = ""
    blocked: bool = False
    blocked_by_peer: bool = False

    @property
    def unread(self) -> int:
        """Incoming messages that the owner has not read."""
        return max(0, self.incoming - self.read_incoming)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A message is in the mailbox; `duplicate` where it already was."""

    message: StoredMessage
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A chat after a pointer was asked to move; `moved` is False where it was there or beyond already."""

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
    """A chat that changed, with messages that came into it, oldest first."""

    chat: StoredChat
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePage:
    """Changed chats; `next_page_token` is "" at the end."""

    chats: tuple[ChangedChat, ...]
    next_page_token: str


class OutboxKind(StrEnum):
    """What an outbox mark promises to tell the peer's side."""

    MESSAGE = "message"
    READ = "read"
    OPENED = "opened"
    DELIVERED = "delivered"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRef:
    """Names one outbox mark. `seq` and `version` are a message's; `up_to` is the pointer that was told."""

    kind: OutboxKind
    owner: str
    chat_id: str
    seq: int = 0
    version: int = 0
    up_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """An event that the queue has not confirmed: `message`, the read pointer `ref.up_to`, or the opening."""

    ref: OutboxRef
    at: datetime
    peer_id: str
    item_id: str
    message: StoredMessage | None = None
    for_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A message after an edit or a deletion; `entry` is to be announced, None where nobody is to know."""

    message: StoredMessage
    entry: OutboxEntry | None


def message_ref(message: StoredMessage) -> OutboxRef:
    """The mark that an own message carries until its event is confirmed."""
    return OutboxRef(kind=OutboxKind.MESSAGE, owner=message.owner, chat_id=message.chat_id, seq=message.seq)


def read_ref(chat: StoredChat) -> OutboxRef:
    """The mark of the chat's read pointer as it stands."""
    return OutboxRef(kind=OutboxKind.READ, owner=chat.owner, chat_id=chat.chat_id, up_to=chat.read_up_to)


def delivered_ref(chat: StoredChat) -> OutboxRef:
    """The mark of the chat's delivery pointer as it stands."""
    return OutboxRef(
        kind=OutboxKind.DELIVERED, owner=chat.owner, chat_id=chat.chat_id, up_to=chat.delivered_up_to
    )


def opened_ref(chat: StoredChat) -> OutboxRef:
    """The mark of the chat's opening."""
    return OutboxRef(kind=OutboxKind.OPENED, owner=chat.owner, chat_id=chat.chat_id)
