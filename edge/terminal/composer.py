"""The field in which one writes: Enter sends, a draft a chat is kept."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message as Event
from textual.widgets import TextArea

MAX_TEXT = 4096
"""Characters of one message, after the contract."""


class Composer(TextArea):
    """What is being written."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send"),
        Binding("pageup", "app.page(-1)", show=False),
        Binding("pagedown", "app.page(1)", show=False),
        Binding("ctrl+end", "app.end", show=False),
    ]

    class Submitted(Event):
        """What was written is to be sent, or done."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class EditLast(Event):
        """The last message is to be edited."""

    class Left(Event):
        """The user does something else."""

    def __init__(self, *, id: str) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id, soft_wrap=True, show_line_numbers=False, compact=True)
        self._drafts: dict[str, str] = {}
        self._chat_id = ""

    def turn_to(self, chat_id: str) -> None:
        """Writes into another chat: keeps the draft of this one, and takes up that one's."""
        self._drafts[self._chat_id] = self.text
        self._chat_id = chat_id
        self.write(self._drafts.pop(chat_id, ""))

    def write(self, text: str) -> None:
        """Puts a text there, the cursor behind it."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def give_back(self, text: str) -> None:
        """What was handed on was not taken."""
        self.write(f"{text}{self.text}")

    def action_submit(self) -> None:
        """Hands on what was written, unless that is nothing; the field is empty at once for what is next."""
        if self.text.strip():
            self.post_message(self.Submitted(self.text.strip("\n")))
            self.write("")

    async def _on_key(self, event: events.Key) -> None:
        # Here, not by a binding with priority: that would overtake the letters that were typed before.
        match event.key:
            case "enter":
                self.action_submit()
            case "ctrl+j" | "alt+enter" | "shift+enter":
                self.insert("\n")
            case "up" if not self.text:
                self.post_message(self.EditLast())
            case "escape":
                self.post_message(self.Left())
            case _:
                await super()._on_key(event)
                return
        event.stop()
        event.prevent_default()
