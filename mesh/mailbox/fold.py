"""The rules of the log: where a message goes, what a chat becomes by it, what a read pointer means. Pure."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from mesh.errors import InvalidArgument
from mesh.mailbox.model import IncomingMessage, NewMessage, StoredChat, StoredMessage

_USER_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_EPOCH = datetime.fromtimestamp(0, UTC)


class Head(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The end of a log: its length, its count of incoming messages, its greatest message_id."""

    seq: int = 0
    incoming: int = 0
    top: str = ""


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message in its place: `head` is the end of the log with this message as the last."""

    message: StoredMessage
    head: Head


def place_own(
    new: NewMessage, head: Head, *, peer_id: str, item_id: str, message_id: str, at: datetime
) -> LogEntry:
    """The owner's new message, next after the head. `message_id` must be greater than `head.top`."""
    message = StoredMessage(
        owner=new.owner,
        chat_id=new.chat_id,
        message_id=message_id,
        seq=head.seq + 1,
        sender_id=new.owner,
        peer_id=peer_id,
        item_id=item_id,
        text=new.text,
        client_msg_id=new.client_msg_id,
        created_at=at,
        stored_at=at,
    )
    return LogEntry(message=message, head=Head(seq=message.seq, incoming=head.incoming, top=message_id))


def place_incoming(new: IncomingMessage, head: Head, *, at: datetime) -> LogEntry:
    """The peer's message, next after the head; its id may well be smaller than that of others in the log."""
    message = StoredMessage(
        owner=new.owner,
        chat_id=new.chat_id,
        message_id=new.message_id,
        seq=head.seq + 1,
        sender_id=new.sender_id,
        peer_id=new.sender_id,
        item_id=new.item_id,
        text=new.text,
        created_at=whole_ms(new.created_at),
        stored_at=at,
        unchecked=new.unchecked,
        judged_at=new.judged_at,
    )
    after = Head(seq=message.seq, incoming=head.incoming + 1, top=max(head.top, new.message_id))
    return LogEntry(message=message, head=after)


def fold(chat: StoredChat | None, entry: LogEntry, *, at: datetime) -> StoredChat:
    """The chat with the entry in it. Entries may come twice, in any order: each field only moves forward."""
    message, head = entry.message, entry.head
    chat = chat or StoredChat(
        owner=message.owner,
        chat_id=message.chat_id,
        peer_id=message.peer_id,
        item_id=message.item_id,
        touched_at=at,
    )
    return replace(
        chat,
        seq=max(chat.seq, head.seq),
        incoming=max(chat.incoming, head.incoming),
        top=max(chat.top, head.top),
        last=max(chat.last or message, message, key=lambda one: (one.message_id, one.version)),
        activity=max(chat.activity or message.created_at, message.created_at),
        touched_at=max(chat.touched_at, at),
        changed_at=max(filter(None, (chat.changed_at, message.changed_at)), default=None),
    )


def same_content(stored: StoredMessage, new: NewMessage) -> bool:
    """Whether a repeated idempotency key repeats its message; later edits and deletions do not matter."""
    return stored.chat_id == new.chat_id and (stored.original_text or stored.text) == new.text


def check_new(new: NewMessage) -> None:
    """Raises InvalidArgument for a message that would spoil the batch that it travels in."""
    check_user("owner", new.owner)
    check_text("text", new.text)
    check_text("client_msg_id", new.client_msg_id)
    check_text("chat_id", new.chat_id)
    if not new.client_msg_id:
        raise InvalidArgument("client_msg_id: must not be empty")


def check_incoming(new: IncomingMessage) -> None:
    """Raises InvalidArgument for a message that would spoil the batch that it travels in."""
    check_user("owner", new.owner)
    check_user("sender_id", new.sender_id)
    for name in ("text", "message_id", "chat_id", "item_id"):
        check_text(name, getattr(new, name))
    if new.owner == new.sender_id:
        raise InvalidArgument("sender_id: a message of one's own is not incoming")


def check_user(name: str, user_id: str) -> None:
    """Raises InvalidArgument: what is stored under an id relies on its characters."""
    if not _USER_ID.fullmatch(user_id):
        raise InvalidArgument(f"{name}: must be 1 to 64 characters of A-Z, a-z, 0-9, _ . -")


def check_query(query: str) -> None:
    """Raises InvalidArgument for what no text can hold, and for what every text holds."""
    check_text("query", query)
    if not query:
        raise InvalidArgument("query: must not be empty")


def check_text(name: str, text: str) -> None:
    """Raises InvalidArgument for what no database can keep."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name}: must be valid Unicode without lone surrogates") from error


def whole_ms(time: datetime) -> datetime:
    """The time cut to milliseconds, as the database keeps it, in UTC."""
    time = time.astimezone(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def from_ns(now_ns: int) -> datetime:
    """Nanoseconds since 1970 as a time cut to milliseconds."""
    return _EPOCH + timedelta(milliseconds=now_ns // 1_000_000)


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970."""
    return (time - _EPOCH) // timedelta(milliseconds=1)
