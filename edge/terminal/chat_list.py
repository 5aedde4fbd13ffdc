"""The view of all chats: who, how much is unread, what was last, who is there."""

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message as Event
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from edge.terminal import words
from edge.terminal.book import Book
from edge.terminal.rows import tick_of
from edge.terminal.shapes import Chat

NEAR_END = 3
"""Chats from the end at which more of them are asked for."""


class ChatList(OptionList):
    """Chats, newest activity first; the option's id is the chat_id."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
    ]

    class NearEnd(Event):
        """The reader comes to the last chats that are there."""

    def show(self, book: Book, now: datetime, shown: str) -> None:
        """Shows all chats of the book; the highlight stays with its chat, or is on the one that is shown."""
        chats = book.listed()
        ids = [chat.chat_id for chat in chats]
        highlighted = self.highlighted_option
        prompts = [entry(book, chat, now, width=max(12, self.content_region.width - 2)) for chat in chats]
        if ids == [option.id for option in self.options]:
            for index, prompt in enumerate(prompts):
                self.replace_option_prompt_at_index(index, prompt)
        else:
            self.set_options([Option(prompt, id=id_) for prompt, id_ in zip(prompts, ids, strict=True)])
        keep = highlighted.id if highlighted is not None and self.has_focus else shown
        self.highlighted = ids.index(keep) if keep in ids else 0 if ids else None

    def watch_highlighted(self, highlighted: int | None) -> None:
        """Notices where the reader is."""
        super().watch_highlighted(highlighted)
        if highlighted is not None and highlighted >= self.option_count - NEAR_END:
            self.post_message(self.NearEnd())


def entry(book: Book, chat: Chat, now: datetime, width: int) -> Table:
    """Two lines: who and when; what was last and how much is unread."""
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    at = chat.last_message.created_at if chat.last_message else chat.updated_at
    grid.add_row(_who(book, chat), Text(words.when(at, now), style="dim"))
    unread = Text(f" {min(chat.unread, 999)}", style="bold reverse") if chat.unread else Text()
    grid.add_row(_last(book, chat, now), unread)
    grid.width = width
    return grid


def title(chats: Iterable[Chat]) -> str:
    """What stands over the list."""
    unread = sum(chat.unread for chat in chats)
    return f"Chats ({unread})" if unread else "Chats"


def _who(book: Book, chat: Chat) -> Text:
    presence = book.presence.get(chat.peer.user_id)
    online = presence is not None and presence.online
    who = Text.assemble(
        ("● ", "green") if online else ("○ ", "dim"),
        (words.one_line(chat.name), "bold" if chat.unread else ""),
    )
    if chat.item:
        who.append(f" · {words.one_line(chat.item.title or chat.item.item_id)}", style="dim")
    return who


def _last(book: Book, chat: Chat, now: datetime) -> Text:
    if chat.blocked:
        return Text("  blocked", style="italic dim")
    if book.typing.get(chat.chat_id):
        return Text("  typing…", style="italic green")
    failed = any(one.error for one in book.waiting(chat.chat_id))
    if failed:
        return Text("  ! not sent", style="bold red")
    last = chat.last_message
    if last is None:
        return Text("  no messages yet", style="italic dim")
    text = words.one_line(last.text) if not last.deleted else "Deleted message"
    mine = f"{tick_of(chat, last).sign} ".lstrip() if last.sender_id == book.me else ""
    return Text(f"  {mine}{text}", style="" if chat.unread else "dim")
