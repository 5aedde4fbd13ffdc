"""The terminal chat on a server that the test has in hand: its way through a long past, and its colours."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from rich.color import Color as RichColor
from textual.color import Color

from edge.client import Client
from edge.terminal.app import ChatApp
from edge.terminal.conversation import Conversation
from tests.terminal.support import QUICK, WIDE, Terminal
from tests.unit.test_edge_client import Params, Refusal, Server

COUNT = 230


def message(seq: int, text: str = "", **more: Any) -> Params:
    """One of bob's messages, ten seconds after the one before."""
    minute, second = divmod(seq * 10, 60)
    at = f"2026-11-23T{8 + minute // 60:02}:{minute % 60:02}:{second:02}Z"
    fields = {"message_id": f"m{seq:05}", "chat_id": "c", "sender_id": "bob", "seq": seq, "created_at": at}
    return {**fields, "text": text or f"Line {seq:03}", **more}


class Messenger(Server):
    """A server with one chat, in which bob has written `COUNT` messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = [message(seq) for seq in range(COUNT)]
        self.on |= {
            "chats.list": lambda _: {"chats": [self.chat()]},
            "chats.open": lambda _: {"chat": self.chat()},
            "chats.mark_read": lambda _: {"chat": self.chat()},
            "chats.mark_delivered": lambda _: {},
            "chats.typing": lambda _: {},
            "messages.history": self.history,
            "messages.send": self.refuse,
            "presence.get": lambda _: {"presence": [{"user_id": "bob", "online": True}]},
        }

    def chat(self) -> Params:
        """How the chat stands."""
        last = self.messages[-1]
        chat = {"chat_id": "c", "peer": {"user_id": "bob", "name": "Bob"}, "updated_at": last["created_at"]}
        return {
            **chat,
            "last_message": last,
            "read_up_to": last["message_id"],
            "seq": last["seq"],
            "version": 1,
        }

    def history(self, params: Params) -> Params:
        """The page before a message, or the newest."""
        older = [one for one in self.messages if one["message_id"] < params.get("before", "~")]
        page = older[-params["limit"] :]
        return {"messages": page, "has_more": len(page) < len(older)}

    def refuse(self, _params: Params) -> Params:
        """Takes no message."""
        raise Refusal(-32009)

    async def write(self, text: str) -> None:
        """Bob writes another message."""
        self.messages.append(message(len(self.messages), text))
        event_id = f"e{len(self.messages)}"
        await self.notify("message.new", event_id=event_id, message=self.messages[-1])


@pytest.fixture
async def messenger() -> AsyncIterator[Messenger]:
    """A messenger."""
    server = Messenger()
    async with server.listening():
        yield server


@pytest.fixture
async def screen(messenger: Messenger) -> AsyncIterator[Terminal]:
    """Alice's screen, with the chat with bob."""
    client = Client(messenger.url, "token", backoff=QUICK)
    terminal = Terminal(ChatApp(client, "alice", messenger.url, "bob"))
    await terminal.start(WIDE)
    await terminal.until(lambda: in_view(terminal), "the conversation")
    yield terminal
    await terminal.close()


def in_view(screen: Terminal) -> list[str]:
    """The numbered lines in view, from above."""
    right = (line.partition("▎")[2] for line in screen.screen.splitlines())
    return [line.partition("Line ")[2][:3] for line in right if "Line " in line]


async def test_a_way_through_a_long_past(messenger: Messenger, screen: Terminal) -> None:
    """Page by page all comes into view, each line once and in order; news moves nobody who reads above."""
    seen: set[str] = set()
    for _ in range(COUNT):
        lines = in_view(screen)
        assert lines == sorted(set(lines))
        seen.update(lines)
        if "000" in lines:
            break
        await screen.press("pageup")
        await screen.until(lambda top=lines[0]: in_view(screen)[0] < top, f"before {lines[0]}")  # type: ignore[misc]
    assert len(seen) == COUNT
    await screen.shows("further down")
    before = in_view(screen)
    await messenger.write("Line 230, news")
    await screen.until(lambda: "Line 230, news" in screen.screen, "the news, in the list")
    assert in_view(screen) == before
    await screen.press("ctrl+end")
    await screen.until(lambda: "230" in in_view(screen), "the news, in its place")
    assert "further down" not in screen.screen


async def test_news_does_not_undo_a_step_back(screen: Terminal) -> None:
    """Who pages back stays there, whatever is shown anew in the same moment."""
    view = screen.app.query_one(Conversation)
    with screen.app._context():
        screen.app.action_page(-1)
        view.show(view._rows)
    assert not view.is_at_end
    await screen.shows("further down")


async def test_keys_of_a_message(screen: Terminal) -> None:
    """Those that make no sense for the selected message are not offered."""
    await screen.say("Refused")
    await screen.shows("Not sent: no")
    screen.focus(Conversation)
    await screen.shows("Send again", "Discard", "Copy")
    assert "Edit" not in screen.screen
    await screen.press("up")
    await screen.hides("Discard")
    await screen.shows("Delete", "Copy")
    await screen.press("down", "x")
    await screen.hides("Refused")


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "gruvbox"])
async def test_every_text_can_be_read(screen: Terminal, theme: str) -> None:
    """In light and in dark all texts of the conversation stand out from their ground, by 3:1."""
    await screen.say("Refused")
    await screen.shows("Not sent: no")
    view = screen.app.query_one(Conversation)
    before = view.background_colors[1]
    if theme != screen.app.theme:
        with screen.app._context():
            screen.app.theme = theme
        await screen.until(lambda: view.background_colors[1] != before, "other colours")
    with screen.app._context():
        styles = {name: view._style(name, on) for name, on in STYLES}
    for name, style in styles.items():
        assert style.color is not None
        assert style.bgcolor is not None
        assert contrast(style.color, style.bgcolor) >= 3, (name, style)


STYLES = [("line", ""), ("mine", ""), ("theirs", ""), ("found", "mine"), ("meta", "theirs")] + [
    (name, "mine") for name in ("meta", "read", "failed", "deleted")
]


def contrast(*colors: RichColor) -> float:
    """Of two colours, after WCAG 2.2."""
    lighter, darker = sorted((luminance(Color.from_rich_color(color)) for color in colors), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: Color) -> float:
    """Relative luminance, after WCAG 2.2."""
    parts = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized
    )
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
