"""Questions over the screen: whom to write to, what to delete, what to search for; and the help."""

from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from edge.rpc import RpcError
from edge.terminal import slash, words
from edge.terminal.shapes import Message

ESCAPE: list[BindingType] = [Binding("escape", "dismiss", "Close")]


class NewChat(ModalScreen[tuple[str, str] | None]):
    """Asks whom to write to, and about what; dismissed with both."""

    BINDINGS: ClassVar[list[BindingType]] = ESCAPE

    def compose(self) -> ComposeResult:
        """Two fields."""
        with Vertical(classes="dialog"):
            yield Label("Write to", classes="title")
            yield Input(placeholder="person, e.g. bob", id="person", max_length=64)
            yield Input(placeholder="about an item (may stay empty)", id="item", max_length=64)
            yield Label("Enter opens the chat, Esc leaves it.", classes="hint")

    def on_input_submitted(self) -> None:
        """Opens the chat."""
        person, item = (self.query_one(f"#{name}", Input).value.strip() for name in ("person", "item"))
        if person:
            self.dismiss((person, item))


class Delete(ModalScreen[bool | None]):
    """Asks for whom a message is to be deleted; dismissed with whether it is for all."""

    BINDINGS: ClassVar[list[BindingType]] = ESCAPE

    def __init__(self, text: str, *, mine: bool) -> None:
        super().__init__()
        self._text = text
        self._mine = mine

    def compose(self) -> ComposeResult:
        """A button for each answer."""
        with Vertical(classes="dialog"):
            yield Label("Delete this message?", classes="title")
            yield Static(Text(self._text, overflow="ellipsis", no_wrap=True), classes="quote")
            with Horizontal(classes="buttons"):
                yield Button("For me", id="me", variant="primary")
                if self._mine:
                    yield Button("For everyone", id="all", variant="error")
                yield Button("Cancel", id="cancel")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answers."""
        self.dismiss({"me": False, "all": True}.get(event.button.id or ""))


Find = Callable[[str, str], Awaitable[tuple[list[Message], str]]]


class Search(ModalScreen[tuple[Message, str] | None]):
    """Searches, and lists what was found; dismissed with the message that was chosen, and the words.

    Args:
        find: `(words, cursor) -> messages, next cursor`.
        tell: one line about where a message stands.
        words_: what to begin with.
        where: what is searched, in words.
    """

    BINDINGS: ClassVar[list[BindingType]] = ESCAPE

    def __init__(self, find: Find, tell: Callable[[Message], str], words_: str, where: str) -> None:
        super().__init__()
        self._find = find
        self._tell = tell
        self._words = words_
        self._where = where
        self._found: list[Message] = []
        self._cursor = ""

    def compose(self) -> ComposeResult:
        """A field over what was found."""
        with Vertical(classes="dialog wide"):
            yield Label(f"Search in {self._where}", classes="title")
            yield Input(self._words, placeholder="words", id="words", max_length=256)
            yield OptionList(id="found")
            yield Label("Enter searches; on a message it goes there. Esc leaves.", classes="hint", id="said")

    def on_mount(self) -> None:
        """Searches at once where there is something to search for."""
        if self._words:
            self._begin()

    def on_input_submitted(self) -> None:
        """Searches."""
        self._words = self.query_one("#words", Input).value.strip()
        if self._words:
            self._begin()

    def _begin(self) -> None:
        self._found, self._cursor = [], ""
        self.query_one(OptionList).clear_options()
        self._more()

    @work(exclusive=True)
    async def _more(self) -> None:
        said = self.query_one("#said", Label)
        said.update("Searching…")
        try:
            found, self._cursor = await self._find(self._words, self._cursor)
        except RpcError as error:
            said.update(f"Not searched: {error}")
            return
        options = self.query_one(OptionList)
        self._found += found
        options.add_options([Option(_hit(self._tell(one), one.text, self._words)) for one in found])
        counted = f"{len(self._found)}{' or more' if self._cursor else ''} found"
        said.update(f"{counted if self._found else 'Nothing found'}. Enter goes there, Esc leaves.")
        if self._found and options.highlighted is None:
            options.focus()
            options.highlighted = 0

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Reads on when the end comes near."""
        if self._cursor and event.option_index >= len(self._found) - 3:
            self._more()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Goes there."""
        self.dismiss((self._found[event.option_index], self._words))


def _hit(where: str, text: str, sought: str) -> Text:
    shown = Text(where + "\n", style="dim")
    line = Text(words.one_line(text), style="not dim")
    line.highlight_words([sought], "bold reverse", case_sensitive=False)
    return shown.append_text(line)


KEYS = (
    ("Tab", "from the list to the conversation to the field, and on"),
    ("Ctrl+N", "write to a person"),
    ("Ctrl+F", "search; in the chat that is open: /find"),
    ("Alt+Up, Alt+Down", "the chat above, below"),
    ("PgUp, PgDn, Ctrl+Home, Ctrl+End", "through the conversation"),
    ("Enter, Ctrl+J", "send; a new line"),
    ("Up in the empty field", "edit your last message"),
    ("in the conversation: Up, Down", "select a message"),
    ("… E, D, C, R, X", "edit, delete, copy it; send it again, discard it"),
    ("Esc", "back to the list"),
    ("Ctrl+R", "connect now, without waiting"),
    ("Ctrl+P, Ctrl+Q", "colours and more; leave"),
)


class Help(ModalScreen[None]):
    """Keys and commands."""

    BINDINGS: ClassVar[list[BindingType]] = [*ESCAPE, Binding("f1", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """Two tables."""
        with VerticalScroll(classes="dialog wide"):
            yield Label("Keys", classes="title")
            yield Static(_table(KEYS))
            yield Label("Commands, in the field", classes="title")
            yield Static(_table(slash.COMMANDS.values()))


def _table(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for left, right in lines:
        table.add_row(Text(left), Text(right))
    return table
