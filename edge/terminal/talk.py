"""The right half: one conversation, and the field in which one writes into it."""

from datetime import UTC, datetime

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message as Event
from textual.widgets import Static, TextArea

from edge.terminal import slash, status, words
from edge.terminal.composer import MAX_TEXT, Composer
from edge.terminal.conversation import Conversation
from edge.terminal.desk import Desk
from edge.terminal.dialogs import Delete
from edge.terminal.rows import conversation
from edge.terminal.shapes import Chat, Message
from edge.terminal.slash import Command


class Talk(Vertical):
    """One conversation at a time.

    Args:
        desk: does what is asked for.
    """

    class Commanded(Event):
        """A command was typed."""

        def __init__(self, command: Command) -> None:
            super().__init__()
            self.command = command

    class Left(Event):
        """The user does something else."""

    def __init__(self, desk: Desk, *, id: str) -> None:  # noqa: A002  # Textual's name
        super().__init__(id=id)
        self._desk = desk
        self._new_after: str | None = None
        self._editing: Message | None = None

    def compose(self) -> ComposeResult:
        """The person over the conversation over the field."""
        yield Static(id="peer")
        yield Conversation(id="conversation")
        yield Static(id="hint")
        yield Composer(id="text")

    @property
    def chat(self) -> Chat | None:
        """The chat that is shown."""
        return self._desk.book.chats.get(self._desk.shown)

    @property
    def chosen(self) -> Message | None:
        """The message that a command is about: the selected one, else the last own one."""
        selected, book = self.query_one(Conversation).selected, self._desk.book
        return (book.message(self._desk.shown, selected.message_id) if selected else None) or book.last_own(
            self._desk.shown
        )

    def turn_to(self, chat_id: str) -> None:
        """Shows a chat, at its end, to write into it."""
        if chat_id != self._desk.shown:
            self.stop_editing()
            self.query_one(Composer).turn_to(chat_id)
            self._desk.show(chat_id)
            self._new_after = self.chat.read_up_to if self.chat and self.chat.unread else None
            self.draw(datetime.now(UTC), anew=True)
        self.query_one(Composer).focus()

    def go_to(self, message: Message, found: str) -> None:
        """Shows a message that is held; `found` is what was searched for."""
        self.draw(datetime.now(UTC))
        view = self.query_one(Conversation)
        view.focus()
        view.go_to(message.message_id, found)

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────────────────

    def draw(self, now: datetime, *, anew: bool = False) -> None:
        """Draws how things stand, and marks as read what is seen by it."""
        book, chat, view = self._desk.book, self.chat, self.query_one(Conversation)
        self.query_one("#peer", Static).update(status.head(book, chat, now))
        view.show(conversation(book, chat.chat_id, now, self._new_after) if chat else [], anew=anew)
        self._draw_hint()
        if chat and view.is_near_top:
            self._desk.older(chat.chat_id)
        if chat and book.is_loaded(chat.chat_id) and view.is_at_end and self.app.app_focus:
            self._desk.see(chat.chat_id)

    def _draw_hint(self) -> None:
        hint, line = self._hint(self.chat), self.query_one("#hint", Static)
        line.display = bool(hint.plain)
        line.update(hint)

    def _hint(self, chat: Chat | None) -> Text:
        typed = self.query_one(Composer).text
        if told := slash.matching(typed):
            return Text("\n".join(f"{written:24}{does}" for written, does in told))
        if self._editing is not None:
            return Text("Editing. Enter saves, Esc leaves it as it was.")
        if chat and chat.blocked:
            return Text(f"You blocked {words.one_line(chat.name)}. /unblock takes messages again.")
        if len(typed) > MAX_TEXT:
            return Text(f"{len(typed) - MAX_TEXT} characters too many for one message.")
        if chat and not self.query_one(Conversation).is_at_end:
            news = f"{chat.unread} new further down" if chat.unread else "There is more further down"
            return Text(f"↓ {news}: Ctrl+End goes there.")
        return Text()

    # ── messages ────────────────────────────────────────────────────────────────────────────────────────────

    def on_conversation_near_top(self) -> None:
        """Reads on, backwards."""
        if self._desk.shown:
            self._desk.older(self._desk.shown)

    def on_conversation_moved(self) -> None:
        """What is in view has been seen."""
        self.draw(datetime.now(UTC))

    def on_conversation_chosen(self, event: Conversation.Chosen) -> None:
        """Something is to be done with a message."""
        row, desk = event.row, self._desk
        message = desk.book.message(desk.shown, row.message_id)
        match event.action:
            case "copy":
                self.app.copy_to_clipboard(row.text)
                self.notify("Copied")
            case "retry" if row.error:
                desk.retry(row.key)
            case "discard" if row.error:
                desk.discard(row.key)
            case "edit" if message and row.mine:
                self.edit(message)
            case "delete" if message:
                self.ask_deletion(message)

    def ask_deletion(self, message: Message) -> None:
        """Asks for whom a message is to be deleted, and does that."""

        def answer(for_all: bool | None) -> None:
            if for_all is not None:
                self._desk.delete(message, for_all=for_all)

        mine = message.sender_id == self._desk.book.me
        self.app.push_screen(Delete(words.one_line(message.text), mine=mine), answer)

    # ── writing ─────────────────────────────────────────────────────────────────────────────────────────────

    def edit(self, message: Message) -> None:
        """Takes a message into the field."""
        self._editing = message
        composer = self.query_one(Composer)
        composer.write(message.text)
        composer.focus()
        self._draw_hint()

    def stop_editing(self) -> None:
        """Leaves the message as it is."""
        if self._editing is not None:
            self._editing = None
            self.query_one(Composer).write("")

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Tells of typing."""
        text = event.text_area.text
        if self._desk.shown and text and not text.startswith("/") and self._editing is None:
            self._desk.type(self._desk.shown)
        self._draw_hint()

    def on_composer_left(self) -> None:
        """Leaves the edit, or the field."""
        if self._editing is not None:
            self.stop_editing()
        else:
            self.post_message(self.Left())

    def on_composer_edit_last(self) -> None:
        """Edits the last message."""
        if last := self._desk.book.last_own(self._desk.shown):
            self.edit(last)

    def on_composer_submitted(self, event: Composer.Submitted) -> None:
        """Sends, saves, or has done what was asked for; what is refused comes back into the field."""
        parsed = slash.parse(event.text)
        if isinstance(parsed, Command):
            self.post_message(self.Commanded(parsed))
        elif refusal := self._refusal(parsed):
            self.app.notify(refusal, severity="warning", markup=False)
            self.query_one(Composer).give_back(event.text)
        elif self._editing is not None:
            message, self._editing = self._editing, None
            if parsed != message.text:
                self._desk.edit(message, parsed)
        else:
            self._new_after = None
            self._desk.send(self._desk.shown, parsed)
            self.query_one(Conversation).to_end()

    def _refusal(self, text: str) -> str:
        if len(text) > MAX_TEXT:
            return f"Not sent: a message has {MAX_TEXT} characters at most."
        if self.chat is None:
            return "Open a chat first: Ctrl+N, or /open PERSON."
        return "You blocked this person; /unblock first." if self.chat.blocked else ""
