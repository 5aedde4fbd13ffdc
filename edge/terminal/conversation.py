"""The view of a conversation: draws rows line by line, keeps the reader's place, has one message selected.

It draws only the lines that are in view, so its length does not matter.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message as Event
from textual.scroll_view import ScrollView
from textual.strip import Strip

from edge.terminal import words
from edge.terminal.rows import Bubble, Line, Row, Tick

LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]}]")
WIDEST = 76
"""Cells that a message takes at most."""

NEAR = 10
"""Lines from the top at which older messages are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a row looks like, apart from itself."""

    width: int
    selected: bool
    found: str


class Conversation(ScrollView, can_focus=True):
    """Messages of one chat.

    Older ones are asked for by `NearTop`; what is to be done with the selected one, by `Chosen`.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "conversation--line", "conversation--mine", "conversation--theirs", "conversation--meta",
        "conversation--read", "conversation--failed", "conversation--found", "conversation--deleted",
        "conversation--mark",
    }  # fmt: skip

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "select(-1)", "Older", show=False),
        Binding("down,j", "select(1)", "Newer", show=False),
        Binding("home", "scroll_home", "Oldest", show=False),
        Binding("end", "to_end", "Newest", show=False),
        Binding("e", "choose('edit')", "Edit"),
        Binding("d", "choose('delete')", "Delete"),
        Binding("c", "choose('copy')", "Copy"),
        Binding("r", "choose('retry')", "Send again"),
        Binding("x", "choose('discard')", "Discard"),
    ]

    class NearTop(Event):
        """The reader comes to the oldest messages that are there."""

    class Chosen(Event):
        """Something is to be done with a message: edit, delete, copy, retry, discard."""

        def __init__(self, action: str, row: Bubble) -> None:
            super().__init__()
            self.action = action
            self.row = row

    class Moved(Event):
        """The reader has come to the newest message, or left it."""

    def __init__(self, *, id: str) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id)
        self._rows: Sequence[Row] = ()
        self._starts: list[int] = [0]
        self._strips: dict[tuple[Row, Look], list[Strip]] = {}
        self._selected = ""
        self._found = ""
        self._sticks = True

    # ── what it shows ───────────────────────────────────────────────────────────────────────────────────────

    def show(self, rows: Sequence[Row], *, anew: bool = False) -> None:
        """Shows these rows; the reader stays where he is, or at the end. `anew`: another chat, at its end."""
        if anew:
            self._selected, self._sticks, self._found = "", True, ""
        place = self._place()
        self._rows = rows
        self._lay_out()
        if self._sticks:
            self.to_end()
        elif place is not None:
            self._return_to(*place)
        self.refresh()

    @property
    def is_at_end(self) -> bool:
        """Whether the newest message is in view."""
        return self.scroll_offset.y >= self.max_scroll_y

    @property
    def is_near_top(self) -> bool:
        """Whether the oldest messages that are there are about to come into view."""
        return self.scroll_offset.y < NEAR

    @property
    def selected(self) -> Bubble | None:
        """The message that keys act on."""
        return next((row for row in self._bubbles() if row.key == self._selected), None)

    def to_end(self) -> None:
        """Shows the newest message."""
        self._jump(self.max_scroll_y)
        self._sticks = True

    def go_to(self, message_id: str, found: str = "") -> None:
        """Shows a message and selects it; `found` is what was searched for."""
        for index, row in enumerate(self._rows):
            if isinstance(row, Bubble) and row.message_id == message_id:
                self._selected, self._found, self._sticks = row.key, found, False
                self._lay_out()
                middle = self._starts[index] - self.size.height // 2
                self._jump(middle)
                self.refresh()

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────

    def action_to_end(self) -> None:
        """Shows the newest message."""
        self.to_end()
        if bubbles := self._bubbles():
            self._select(bubbles[-1])

    def action_select(self, step: int) -> None:
        """Selects the message before or after; the newest one to begin with."""
        bubbles = self._bubbles()
        if not bubbles:
            return
        keys = [row.key for row in bubbles]
        at = keys.index(self._selected) + step if self._selected in keys else len(keys) - 1
        row = bubbles[max(0, min(at, len(bubbles) - 1))]
        self._select(row)
        self._bring_into_view(self._rows.index(row))

    def action_choose(self, action: str) -> None:
        """Asks for something to be done with the selected message, or with the newest one."""
        if self.selected is not None:
            self.post_message(self.Chosen(action, self.selected))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Which keys there are for the selected message."""
        if action != "choose":
            return True
        row = self.selected
        match parameters:
            case ("edit",):
                return row is not None and row.mine and bool(row.message_id) and not row.deleted
            case ("delete",):
                return row is not None and bool(row.message_id) and not row.deleted
            case ("copy",):
                return row is not None and not row.deleted
            case _:
                return row is not None and bool(row.error)

    def on_click(self, event: events.Click) -> None:
        """Selects what is clicked."""
        index = bisect_right(self._starts, event.y + self.scroll_offset.y) - 1
        if 0 <= index < len(self._rows) and isinstance(row := self._rows[index], Bubble):
            self._select(row)

    def on_focus(self) -> None:
        """Selects the newest message, where none is selected."""
        if self.selected is None and (bubbles := self._bubbles()):
            self._select(bubbles[-1])
        self.refresh()

    def on_blur(self) -> None:
        """Shows it no more: keys act elsewhere."""
        self.refresh()

    def _select(self, row: Bubble) -> None:
        self._selected = row.key
        self.refresh()
        self.refresh_bindings()

    # ── the place ───────────────────────────────────────────────────────────────────────────────────────────

    def _bubbles(self) -> list[Bubble]:
        return [row for row in self._rows if isinstance(row, Bubble)]

    def _place(self) -> tuple[str, int] | None:
        """The first message in view, and how many lines of it are above."""
        top = self.scroll_offset.y
        for index in range(max(0, bisect_right(self._starts, top) - 1), len(self._rows)):
            if isinstance(row := self._rows[index], Bubble):
                return row.key, top - self._starts[index]
        return None

    def _return_to(self, key: str, above: int) -> None:
        for index, row in enumerate(self._rows):
            if row.key == key:
                self._jump(self._starts[index] + above)

    def _jump(self, line: int) -> None:
        # Forced: before the first layout there is no scrollbar yet, which else forbids it.
        self.scroll_to(y=max(0, min(line, self.max_scroll_y)), animate=False, force=True)

    def _bring_into_view(self, index: int) -> None:
        top, bottom = self._starts[index], self._starts[index + 1]
        if top < self.scroll_offset.y:
            self._jump(top - 1)
        elif bottom > self.scroll_offset.y + self.size.height:
            self._jump(bottom - self.size.height)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Notices where the reader is."""
        super().watch_scroll_y(old_value, new_value)
        if self._sticks != self.is_at_end and (self.is_at_end or new_value < old_value):
            self._sticks = self.is_at_end
            self.post_message(self.Moved())
        if self.is_near_top and self._rows:
            self.post_message(self.NearTop())

    def on_resize(self) -> None:
        """Lays out for the new width."""
        place, sticks = self._place(), self._sticks
        self._lay_out()
        if sticks:
            self.to_end()
        elif place is not None:
            self._return_to(*place)

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────────────────

    def notify_style_update(self) -> None:
        """Draws anew in other colours."""
        self._strips.clear()
        super().notify_style_update()

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width
        if width <= 0:
            return
        known, self._strips = self._strips, {}
        for row in self._rows:
            look = self._look(row, width)
            self._strips[row, look] = known.get((row, look)) or self._draw(row, look)
        heights = (len(self._strips[row, self._look(row, width)]) for row in self._rows)
        self._starts = [0, *accumulate(heights)]
        self.virtual_size = Size(width, self._starts[-1])

    def _look(self, row: Row, width: int) -> Look:
        return Look(width=width, selected=row.key == self._selected and self.has_focus, found=self._found)

    def render_line(self, y: int) -> Strip:
        """One line of what is in view."""
        width = self.scrollable_content_region.width
        line = y + self.scroll_offset.y
        index = bisect_right(self._starts, line) - 1
        if not 0 <= index < len(self._rows):
            return Strip.blank(width, self._style("mark"))
        row = self._rows[index]
        look = self._look(row, width)
        strips = self._strips.get((row, look)) or self._draw(row, look)
        self._strips[row, look] = strips
        return strips[min(line - self._starts[index], len(strips) - 1)]

    def _draw(self, row: Row, look: Look) -> list[Strip]:
        return self._draw_line(row, look) if isinstance(row, Line) else self._draw_bubble(row, look)

    def _draw_line(self, row: Line, look: Look) -> list[Strip]:
        style, ground = self._style("line"), self._style("mark")
        text = f" {row.text} "
        left = max(0, look.width - cell_len(text)) // 2
        right = max(0, look.width - cell_len(text) - left)
        rule = Strip([Segment("─" * left + text + "─" * right, style)])
        return [Strip.blank(look.width, ground), rule.adjust_cell_length(look.width, ground)]

    def _draw_bubble(self, row: Bubble, look: Look) -> list[Strip]:
        lines, room = self._lines(row, look)
        style, ground = self._style(_side(row)), self._style("mark")
        right = 2 if row.mine else look.width - room - 4
        left = look.width - room - 2 - right
        strips = [Strip.blank(look.width, ground)] if row.leads else []
        for line in lines:
            line.pad_right(room - line.cell_len)
            edge = Segment("▌" if look.selected else " ", ground)
            inner = [
                Segment(text, style + (more or Style()))
                for text, more, _ in line.render(self.app.console)
                if text
            ]
            segments = [
                Segment(" " * (left - 1), ground), edge, Segment(" ", style), *inner, Segment(" ", style),
                Segment(" " * right, ground),
            ]  # fmt: skip
            strips.append(Strip(segments).adjust_cell_length(look.width, ground))
        return strips

    def _lines(self, row: Bubble, look: Look) -> tuple[list[Text], int]:
        """The lines of a bubble, the last one with time and tick, and the cells that they take."""
        most = max(8, min(WIDEST, look.width - 8))
        lines = [line for part in self._text(row, look).split("\n") for line in self._wrapped(part, most)]
        meta = self._meta(row)
        if lines[-1].cell_len + 2 + meta.cell_len > most:
            lines.append(Text())
        widest = max(line.cell_len for line in lines[:-1]) if len(lines) > 1 else 0
        room = max(widest, lines[-1].cell_len + 2 + meta.cell_len)
        last = lines[-1]
        last.pad_right(room - last.cell_len - meta.cell_len)
        last.append_text(meta)
        if row.error:
            said = Text.assemble((f"Not sent: {row.error}", self._style("failed", on=_side(row))))
            lines += self._wrapped(said, most)
        return lines, max(room, *(line.cell_len for line in lines))

    def _wrapped(self, text: Text, width: int) -> list[Text]:
        return list(text.wrap(self.app.console, width)) or [Text()]

    def _text(self, row: Bubble, look: Look) -> Text:
        if row.deleted:
            return Text.assemble(("Deleted message", self._style("deleted", on=_side(row))))
        text = Text(row.text)
        for match in LINK.finditer(row.text):
            text.stylize(Style(underline=True, link=match[0]), *match.span())
        if look.found:
            text.highlight_words([look.found], self._style("found"), case_sensitive=False)
        return text

    def _meta(self, row: Bubble) -> Text:
        said = " ".join(filter(None, (row.note, words.clock(row.at))))
        meta = Text.assemble((said, self._style("meta", on=_side(row))))
        if row.tick is not Tick.NONE:
            name = {Tick.READ: "read", Tick.FAILED: "failed"}.get(row.tick, "meta")
            meta.append(f" {row.tick.sign}", style=self._style(name, on=_side(row)))
        return meta

    def _style(self, name: str, on: str = "") -> Style:
        """A component's colours on the ground of another one, or of the whole."""
        styles = self.get_component_styles(f"conversation--{name}")
        ground = self.background_colors[1]
        if on:
            ground += self.get_component_styles(f"conversation--{on}").background
        ground += styles.background
        colours = Style(color=(ground + styles.color).rich_color, bgcolor=ground.rich_color)
        return colours + styles.text_style


def _side(row: Bubble) -> str:
    return "mine" if row.mine else "theirs"
