"""The screen: puts the views together, and turns keys and commands into what the desk does."""

from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, OptionList, Static

from edge.client import Client
from edge.rpc import RpcError
from edge.terminal import chat_list, slash, status, words
from edge.terminal.chat_list import ChatList
from edge.terminal.conversation import Conversation
from edge.terminal.desk import Desk
from edge.terminal.dialogs import Help, NewChat, Search
from edge.terminal.shapes import Chat, Message
from edge.terminal.slash import Command
from edge.terminal.talk import Talk

SECOND = 1.0


class ChatApp(App[None]):
    """One user's chats.

    Args:
        client: not started yet.
        me: the user.
        url: where the messenger is, for showing.
        peer_id: whom to write to at once; empty for nobody.
    """

    TITLE = "Messenger"
    CSS_PATH = "chat.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-wide")]  # noqa: RUF012  # as Textual has it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new_chat", "Write to somebody"),
        Binding("ctrl+f", "search", "Search"),
        Binding("ctrl+r", "reconnect", "Connect now", show=False),
        Binding("alt+up", "next_chat(-1)", "Chat above", show=False),
        Binding("alt+down", "next_chat(1)", "Chat below", show=False),
        Binding("escape", "back", "Back", show=False),
        Binding("f1", "help", "Help"),
        Binding("ctrl+q", "leave", "Leave", priority=True),
    ]

    def __init__(self, client: Client, me: str, url: str, peer_id: str = "") -> None:
        super().__init__()
        self.desk = Desk(client, me, changed=self._changed, complain=self._complain)
        self._url = url
        self._peer_id = peer_id
        self._is_due = False
        self._was_online = False
        self._warned = False

    def compose(self) -> ComposeResult:
        """The chats on the left, one of them on the right."""
        with Horizontal(id="top"):
            yield Static(id="me")
            yield Static(id="connection")
        yield Static(id="trouble")
        with Horizontal(id="body"):
            with Vertical(id="left"):
                yield Static(id="title")
                yield ChatList(id="chats")
            yield Talk(self.desk, id="talk")
        yield Footer()

    def on_mount(self) -> None:
        """Goes to work."""
        self._run()
        self.set_interval(SECOND, self._changed)
        self._draw()

    @work
    async def _run(self) -> None:
        if self._peer_id:
            self._open(self._peer_id)
        await self.desk.run()
        reason = words.one_line(self.desk.connection.get("reason", ""))
        if not self._was_online:
            self.exit(return_code=1, message=f"Not signed in: {reason}")

    async def on_unmount(self) -> None:
        """Leaves."""
        await self.desk.aclose()

    # ── drawing ─────────────────────────────────────────────────────────────────────────────────────────────

    def _changed(self) -> None:
        """Draws soon, once for all that changes until then."""
        self._was_online = self._was_online or self.desk.connection["name"] == "online"
        if not self._is_due and self.is_running:
            self._is_due = True
            self.call_later(self._draw)

    def _draw(self) -> None:
        self._is_due = False
        if not self.is_running:
            return
        main, desk, now = self.screen_stack[0], self.desk, datetime.now(UTC)
        trouble = status.trouble(desk.connection, desk.book.degraded, now, was=self._was_online)
        for name, text in (
            ("me", Text(f" {desk.book.me} at {self._url}")),
            ("connection", status.light(desk.connection)),
            ("trouble", trouble),
            ("title", Text(f" {chat_list.title(desk.book.chats.values())}")),
        ):
            main.query_one(f"#{name}", Static).update(text)
        main.query_one("#trouble").display = bool(trouble.plain)
        main.query_one(ChatList).show(desk.book, now, desk.shown)
        self._talk.draw(now)

    def _complain(self, text: str) -> None:
        self.notify(words.one_line(text), severity="warning", markup=False)

    @property
    def _talk(self) -> Talk:
        return self.screen_stack[0].query_one(Talk)

    # ── going from chat to chat ─────────────────────────────────────────────────────────────────────────────

    def turn_to(self, chat_id: str) -> None:
        """Shows a chat, to write into it."""
        self.screen_stack[0].query_one("#body").add_class("talking")
        self._talk.turn_to(chat_id)
        self._changed()

    @work
    async def _open(self, peer_id: str, item_id: str = "") -> None:
        try:
            self.turn_to(await self.desk.open(peer_id, item_id))
        except RpcError as error:
            self._complain(f"Not opened: {error}")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A chat was chosen."""
        if event.option.id:
            self.turn_to(event.option.id)

    def on_chat_list_near_end(self) -> None:
        """Reads on."""
        self.desk.more_chats()

    def on_talk_left(self) -> None:
        """From the conversation to the list."""
        self._talk.stop_editing()
        self.query_one("#body").remove_class("talking")
        self.query_one(ChatList).focus()

    def on_talk_commanded(self, event: Talk.Commanded) -> None:
        """Does what was asked for."""
        self._obey(event.command)

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────

    def _obey(self, command: Command) -> None:
        chat = self._talk.chat
        match command.name, command.words:
            case "open", [peer_id]:
                self._open(peer_id)
            case "open", [peer_id, item_id]:
                self._open(peer_id, item_id)
            case "search", _:
                self._search(command.rest)
            case "find", _ if chat:
                self._search(command.rest, chat)
            case "edit" | "delete", _ if chat:
                self._change(command)
            case "block" | "unblock", _ if chat:
                self.desk.set_blocked(chat.peer.user_id, blocked=command.name == "block")
            case "retry" | "discard", _ if chat:
                self._unsent(command.name, chat)
            case "help", _:
                self.action_help()
            case "quit", _:
                self.action_leave()
            case name, _ if name in slash.COMMANDS:
                usage, _ = slash.COMMANDS[name]
                self._complain(usage if name == "open" else f"{usage}: open a chat first.")
            case name, _:
                self._complain(f"There is no /{name}; /help lists what there is.")

    def _change(self, command: Command) -> None:
        message = self._talk.chosen
        if message is None:
            self._complain("There is no message of yours to change.")
        elif command.name == "delete" and command.rest == "all":
            self.desk.delete(message, for_all=True)
        elif command.name == "delete":
            self._talk.ask_deletion(message)
        elif message.sender_id != self.desk.book.me or message.deleted:
            self._complain("Only your own messages can be edited.")
        elif command.rest:
            self.desk.edit(message, command.rest)
        else:
            self._talk.edit(message)

    def _unsent(self, what: str, chat: Chat) -> None:
        failed = [one.client_msg_id for one in self.desk.book.waiting(chat.chat_id) if one.error]
        for key in failed:
            self.desk.retry(key) if what == "retry" else self.desk.discard(key)
        if not failed:
            self._complain("Everything has been sent.")

    def _search(self, text: str = "", chat: Chat | None = None) -> None:
        chat_id = chat.chat_id if chat else ""

        async def find(sought: str, cursor: str) -> tuple[list[Message], str]:
            return await self.desk.search(sought, chat_id, cursor)

        def chosen(found: tuple[Message, str] | None) -> None:
            if found:
                self._go_to(*found)

        where = f"the chat with {words.one_line(chat.name)}" if chat else "all chats"
        self.push_screen(Search(find, self._place_of, text, where), chosen)

    def _place_of(self, message: Message) -> str:
        chat = self.desk.book.chats.get(message.chat_id)
        peer = words.one_line(chat.name) if chat else message.chat_id
        who = "You" if message.sender_id == self.desk.book.me else peer
        return f"{peer} · {who}, {words.when(message.created_at, datetime.now(UTC))}"

    @work(exclusive=True, group="going")
    async def _go_to(self, message: Message, found: str) -> None:
        self.turn_to(message.chat_id)
        try:
            there = await self.desk.go_back_to(message.chat_id, message.message_id)
        except RpcError as error:
            self._complain(f"Not loaded: {error}")
            return
        if there:
            self._talk.go_to(message, found)
        else:
            self._complain("That message is too far back to go there.")

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────────

    def action_next_chat(self, step: int) -> None:
        """The chat above or below."""
        ids = [chat.chat_id for chat in self.desk.book.listed()]
        if ids:
            at = ids.index(self.desk.shown) + step if self.desk.shown in ids else 0
            self.turn_to(ids[max(0, min(at, len(ids) - 1))])

    async def action_back(self) -> None:
        """From the conversation to the list."""
        self.on_talk_left()

    def action_page(self, pages: int) -> None:
        """Through the conversation, while one writes."""
        view = self.query_one(Conversation)
        view.scroll_relative(
            y=pages * max(1, view.size.height - 2), animate=False, force=True, immediate=True
        )

    def action_end(self) -> None:
        """To the newest message."""
        self.query_one(Conversation).action_to_end()

    def action_new_chat(self) -> None:
        """Asks whom to write to."""

        def answer(said: tuple[str, str] | None) -> None:
            if said:
                self._open(*said)

        self.push_screen(NewChat(), answer)

    def action_search(self) -> None:
        """Searches in all chats."""
        self._search()

    def action_help(self) -> None:
        """Keys and commands."""
        self.push_screen(Help())

    def action_reconnect(self) -> None:
        """Waits no longer."""
        self.desk.client.wake()

    def action_leave(self) -> None:
        """Leaves; the first time, says what would be lost."""
        unsent = len(self.desk.book.outgoing)
        if unsent and not self._warned:
            self._warned = True
            self._complain(f"{unsent} not sent, and lost when you leave. Ctrl+Q again leaves.")
        else:
            self.exit()
