"""What is said about the connection and about the person one talks to. Pure; time is handed in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from edge.terminal import words
from edge.terminal.book import Book
from edge.terminal.shapes import Chat


def light(connection: dict[str, Any]) -> Text:
    """One word in the corner: whether one is connected, and by what."""
    match connection:
        case {"name": "online", "transport": "websocket"}:
            return Text("● online ", style="green")
        case {"name": "online"}:
            return Text("● online by HTTP ", style="yellow")
        case {"name": "closed"}:
            return Text("○ signed out ", style="red")
        case _:
            return Text("○ offline ", style="yellow")


def trouble(connection: dict[str, Any], degraded: Sequence[str], now: datetime, *, was: bool) -> Text:
    """A line where something is not as it should be; empty where all is well.

    Args:
        connection: see `Client.state`.
        degraded: the parts that answers go without.
        now: for the time until the next attempt.
        was: there was a connection before.
    """
    match connection:
        case {"name": "online"} if degraded:
            return Text(f" Some of it may be missing: {', '.join(degraded)}.")
        case {"name": "online"}:
            return Text()
        case {"name": "closed", "reason": reason}:
            said = words.one_line(reason) or "the connection was closed"
            return Text(f" Signed out: {said}. Ctrl+Q leaves.")
        case {"name": "waiting", "retry_at": retry_at}:
            seconds = max(0, round(retry_at - now.timestamp()))
            when = f"in {seconds} s" if seconds else "now"
            return Text(f" No connection. Trying again {when}; Ctrl+R does at once. What you write is kept.")
        case _:
            return Text(" No connection. Trying again…" if was else " Connecting…")


def head(book: Book, chat: Chat | None, now: datetime) -> Text:
    """Whom one talks to, about what, and how that person is."""
    if chat is None:
        return Text(" Choose a chat, or write to somebody: Ctrl+N", style="dim")
    text = Text(f" {words.one_line(chat.name)}", style="bold")
    if chat.name != chat.peer.user_id:
        text.append(f" ({words.one_line(chat.peer.user_id)})", style="not bold dim")
    if chat.item:
        text.append(f" about {words.one_line(chat.item.title or chat.item.item_id)}", style="not bold")
    if chat.blocked:
        text.append("  blocked", style="not bold red")
    elif book.typing.get(chat.chat_id):
        text.append("  typing…", style="not bold italic green")
    elif how := words.presence(book.presence.get(chat.peer.user_id), now):
        text.append(f"  {how}", style="not bold green" if how == "online" else "not bold dim")
    return text
