"""A conversation as rows, from top to bottom. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from edge.terminal import words
from edge.terminal.book import Book, Outgoing
from edge.terminal.shapes import Chat, Message

TOGETHER = timedelta(minutes=5)
"""Messages of one sender that stand so close together are a group."""


class Tick(Enum):
    """How far an own message has come, with its sign and its word."""

    NONE = ("", "")
    SENDING = ("…", "sending")
    SENT = ("✓", "sent")
    DELIVERED = ("✓✓", "delivered")
    READ = ("✓✓", "read")
    FAILED = ("!", "not sent")

    @property
    def sign(self) -> str:
        """What stands beside the time."""
        return self.value[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line across: a day, or where the new messages begin."""

    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubble:
    """One message.

    Attributes:
        key: the same before and after the server has accepted it.
        message_id: empty while it has none.
        mine: stands on one's own side.
        text: safe to print; empty where it was deleted.
        note: beside the time: `edited`, or nothing.
        error: why it was not sent; empty otherwise.
        leads: the first of a group.
    """

    key: str
    message_id: str
    mine: bool
    text: str
    at: datetime
    tick: Tick = Tick.NONE
    note: str = ""
    error: str = ""
    deleted: bool = False
    leads: bool = True


Row = Line | Bubble


def conversation(book: Book, chat_id: str, now: datetime, new_after: str | None = None) -> list[Row]:
    """The rows of a chat.

    Args:
        book: what is known.
        chat_id: of which chat.
        now: for the names of days.
        new_after: the last message that was read when the chat was opened; None for no line before the new.
    """
    return list(_rows(book, book.chats[chat_id], now, new_after))


def _rows(book: Book, chat: Chat, now: datetime, new_after: str | None) -> Iterator[Row]:
    before: Message | None = None
    marked = new_after is None
    for message in book.messages(chat.chat_id):
        if before is None or not words.is_same_day(before.created_at, message.created_at):
            on = words.day(message.created_at, now)
            yield Line(key=f"day {message.created_at.astimezone().date()}", text=on)
            before = None
        is_new = not marked and message.sender_id != book.me and message.message_id > (new_after or "")
        if is_new:
            marked, before = True, None
            yield Line(key="new", text="New")
        yield _bubble(book, chat, message, leads=not _together(before, message))
        before = message
    for one in book.waiting(chat.chat_id):
        yield _waiting(one)


def _together(before: Message | None, message: Message) -> bool:
    return (
        before is not None
        and before.sender_id == message.sender_id
        and message.created_at - before.created_at < TOGETHER
    )


def _bubble(book: Book, chat: Chat, message: Message, *, leads: bool) -> Bubble:
    mine = message.sender_id == book.me
    return Bubble(
        key=message.client_msg_id or message.message_id,
        message_id=message.message_id,
        mine=mine,
        text="" if message.deleted else words.safe(message.text),
        at=message.created_at,
        tick=tick_of(chat, message) if mine else Tick.NONE,
        note="edited" if message.edited_at and not message.deleted else "",
        deleted=message.deleted,
        leads=leads,
    )


def _waiting(one: Outgoing) -> Bubble:
    return Bubble(
        key=one.client_msg_id,
        message_id="",
        mine=True,
        text=words.safe(one.text),
        at=one.created_at,
        tick=Tick.FAILED if one.error else Tick.SENDING,
        error=words.one_line(one.error),
    )


def tick_of(chat: Chat, message: Message) -> Tick:
    """How far an own message has come. Who has read a message has received it."""
    if message.deleted:
        return Tick.NONE
    if message.message_id <= chat.peer_read_up_to:
        return Tick.READ
    return Tick.DELIVERED if message.message_id <= chat.peer_delivered_up_to else Tick.SENT
