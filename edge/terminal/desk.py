"""What the screens act on: asks the messenger, writes what comes back into the book, says that it changed.

No screen. What is drawn is in the views; what is known is in the book.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from edge.client import Client, Notification
from edge.rpc import RpcError
from edge.terminal.book import Book, Outgoing
from edge.terminal.marks import Marks
from edge.terminal.shapes import Chat, Message, Presence

CHATS_PAGE = 30
HISTORY_PAGE = 50
OLDER_PAGE = 100
MAX_WAY_BACK = 50
"""Pages that going to an old message may read."""

PRESENCE_PAGE = 100
PRESENCE_SECONDS = 240.0
TYPING_SECONDS = 5.0
"""How long typing shows."""

TELL_TYPING_SECONDS = 3.0
"""How often it is told."""


class Desk:
    """One user at work.

    Args:
        client: not started yet.
        me: the user.
        changed: called after every change of what is to be seen; must not block.
        complain: tells the user that something was not done, and why.
    """

    def __init__(
        self, client: Client, me: str, *, changed: Callable[[], None], complain: Callable[[str], None]
    ) -> None:
        self.client = client
        self.book = Book(me)
        self.shown = ""
        self._changed = changed
        self._complain = complain
        self._marks = Marks(client.call, self.book, self._put_chat)
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self._told_typing: dict[str, float] = {}
        self._watched: set[str] = set()

    @property
    def connection(self) -> dict[str, Any]:
        """See `Client.state`."""
        return self.client.state

    async def run(self) -> None:
        """Connects, and takes in what comes until the client is closed or refused."""
        self.client.start()
        self._spawn(self._watch_people())
        async for note in self.client:
            self._take(note)
            self._changed()

    async def aclose(self) -> None:
        """Leaves."""
        for timer in self._ends.values():
            timer.cancel()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()

    # ── what the user does ──────────────────────────────────────────────────────────────────────────────────

    async def open(self, peer_id: str, item_id: str = "") -> str:
        """Opens the chat with a person; its chat_id.

        Raises:
            RpcError: it was refused.
        """
        about = {"item_id": item_id} if item_id else {}
        result = await self.client.call("chats.open", peer_id=peer_id, **about)
        self._put_chat(result["chat"])
        self._watch([peer_id])
        return str(result["chat"]["chat_id"])

    def show(self, chat_id: str) -> None:
        """Looks at a conversation, "" for none: what it needs is loaded, also after a reconnect."""
        self.shown = chat_id
        if not chat_id:
            return
        if chat_id not in self.book.chats:
            self._load(f"chat {chat_id}", self._load_chat(chat_id))
        if not self.book.is_loaded(chat_id):
            self._load(chat_id, self._load_page(chat_id))

    def older(self, chat_id: str) -> None:
        """Loads the page before what is held, where there is one."""
        if self.book.has_more(chat_id):
            self._load(chat_id, self._load_page(chat_id, before=self.book.oldest(chat_id)))

    def more_chats(self) -> None:
        """Loads the next page of the chat list, where there is one."""
        if self.book.next_cursor:
            self._load("chats", self._load_chats(self.book.next_cursor))

    async def go_back_to(self, chat_id: str, message_id: str) -> bool:
        """Loads a chat back to a message; whether it is held then.

        Raises:
            RpcError: a page could not be read.
        """
        if not self.book.is_loaded(chat_id):
            await self._load_page(chat_id)
        for _ in range(MAX_WAY_BACK):
            if self.book.oldest(chat_id) <= message_id or not self.book.has_more(chat_id):
                break
            await self._load_page(chat_id, before=self.book.oldest(chat_id))
        return self.book.message(chat_id, message_id) is not None

    async def search(self, query: str, chat_id: str = "", cursor: str = "") -> tuple[list[Message], str]:
        """Messages with this text, newest first, and the cursor of the next page.

        Raises:
            RpcError: it was refused.
        """
        where = ({"chat_id": chat_id} if chat_id else {}) | ({"cursor": cursor} if cursor else {})
        result = await self.client.call("messages.search", query=query, **where)
        found = [Message.of(one) for one in result.get("messages", ())]
        for unknown in {one.chat_id for one in found} - self.book.chats.keys():
            await self._load_chat(unknown)
        return found, result.get("next_cursor", "")

    def send(self, chat_id: str, text: str) -> None:
        """Sends a message; it shows at once."""
        key, now = str(uuid.uuid4()), datetime.now(UTC)
        self._send(Outgoing(chat_id=chat_id, text=text, client_msg_id=key, created_at=now))

    def retry(self, client_msg_id: str) -> None:
        """Sends again what was not sent, as the same message."""
        self._send(self.book.outgoing[client_msg_id])

    def discard(self, client_msg_id: str) -> None:
        """Throws away what was not sent."""
        self.book.drop(client_msg_id)
        self._changed()

    def edit(self, message: Message, text: str) -> None:
        """Gives an own message another text; it shows at once, and is taken back where it is refused."""
        # Later than what it follows, and earlier than what the server will say, whatever the clocks here.
        at = (message.edited_at or message.created_at) + timedelta(microseconds=1)
        shown = msgspec.structs.replace(message, text=text, edited_at=at)
        self.book.change_message(shown)
        where = {"chat_id": message.chat_id, "message_id": message.message_id}

        async def change() -> None:
            try:
                result = await self.client.call("messages.edit", text=text, **where)
            except RpcError:
                self.book.take_back(shown, message)
                raise
            self.book.change_message(Message.of(result["message"]))

        self._do(change(), "The message was not changed")

    def delete(self, message: Message, *, for_all: bool) -> None:
        """Takes a message away, for oneself or for both."""
        where = {"chat_id": message.chat_id, "message_id": message.message_id}

        async def delete() -> None:
            await self.client.call("messages.delete", for_all=for_all, **where)
            self.book.delete_message(message.chat_id, message.message_id)

        self._do(delete(), "The message was not deleted")

    def set_blocked(self, user_id: str, *, blocked: bool) -> None:
        """Takes no messages from a person, or takes them again."""

        async def block() -> None:
            await self.client.call("users.block" if blocked else "users.unblock", user_id=user_id)
            self.book.block(user_id, blocked=blocked)
            self._watched.discard(user_id)
            if not blocked:
                self._watch([user_id])

        self._do(block(), "Nothing was changed")

    def type(self, chat_id: str) -> None:
        """Tells the peer now and then that the user types."""
        now = asyncio.get_running_loop().time()
        if now - self._told_typing.get(chat_id, -TELL_TYPING_SECONDS) < TELL_TYPING_SECONDS:
            return
        self._told_typing[chat_id] = now
        if self.connection["name"] == "online":
            self._spawn(_quietly(self.client.once("chats.typing", chat_id=chat_id)))

    def see(self, chat_id: str) -> None:
        """The user has seen the chat up to its end."""
        last = self.book.last_incoming(chat_id)
        chat = self.book.chats.get(chat_id)
        if last and chat and last.message_id > chat.read_up_to:
            self.book.receipt("read", chat_id, self.book.me, last.message_id)
            self.book.chats[chat_id] = msgspec.structs.replace(self.book.chats[chat_id], unread=0)
            self._marks.read(chat_id, last.message_id)
            self._changed()

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────

    def _take(self, note: Notification) -> None:
        params = note.params
        match note.method:
            case "session":
                self._catch_up()
            case "resync":
                self._resync(params.get("chat_id", ""))
            case "message.new":
                self._received(Message.of(params["message"]))
            case "message.updated":
                self.book.change_message(Message.of(params["message"]))
            case "message.deleted":
                self.book.delete_message(params["chat_id"], params["message_id"])
            case "chat.updated":
                self._about(params["chat"]["chat_id"])
                self._put_chat(params["chat"])
            case "receipt.read" | "receipt.delivered":
                kind = note.method.removeprefix("receipt.")
                self.book.receipt(kind, params["chat_id"], params["user_id"], params["up_to"])
            case "typing":
                self._typing(params["chat_id"], params["user_id"])
            case "presence":
                self._put_presence([params])

    def _catch_up(self) -> None:
        if self.book.next_cursor is None:
            self._load("chats", self._load_chats())
        self.show(self.shown)
        self._watched.clear()
        self._watch(chat.peer.user_id for chat in self.book.listed())
        self._marks.resume()
        for one in [one for one in self.book.outgoing.values() if one.again]:
            self._send(one)

    def _resync(self, chat_id: str) -> None:
        self.book.forget(chat_id)
        if chat_id:
            self._load(f"chat {chat_id}", self._load_chat(chat_id))
        else:
            self._load("chats", self._load_chats())
        self.show(self.shown)

    def _received(self, message: Message) -> None:
        self.book.put_message(message)
        self._about(message.chat_id)
        if message.sender_id != self.book.me:
            self._marks.delivered(message.chat_id, message.message_id)

    def _about(self, chat_id: str) -> None:
        """Asks for a chat that one hears of for the first time: what comes unasked has no names."""
        if chat_id not in self.book.chats:
            self._load(f"chat {chat_id}", self._load_chat(chat_id))

    def _typing(self, chat_id: str, user_id: str) -> None:
        self.book.typing[chat_id] = user_id
        if timer := self._ends.pop(chat_id, None):
            timer.cancel()
        self._ends[chat_id] = asyncio.get_running_loop().call_later(
            TYPING_SECONDS, self._stop_typing, chat_id
        )

    def _stop_typing(self, chat_id: str) -> None:
        self.book.typing.pop(chat_id, None)
        self._changed()

    # ── loading ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _load_chats(self, cursor: str = "") -> None:
        page = {"cursor": cursor} if cursor else {}
        result = await self.client.call("chats.list", limit=CHATS_PAGE, **page)
        for chat in result.get("chats", ()):
            self._put_chat(chat)
        self.book.next_cursor = result.get("next_cursor", "")
        self.book.degraded = result.get("degraded", [])
        for one in map(Chat.of, result.get("chats", ())):
            if one.unread and one.last_message and one.last_message.sender_id != self.book.me:
                self._marks.delivered(one.chat_id, one.last_message.message_id)
        self._watch(chat.peer.user_id for chat in self.book.listed())

    async def _load_chat(self, chat_id: str) -> None:
        chat = (await self.client.call("chats.get", chat_id=chat_id))["chat"]
        self._put_chat(chat)
        self._watch([chat["peer"]["user_id"]])

    async def _load_page(self, chat_id: str, before: str = "") -> None:
        page = {"before": before, "limit": OLDER_PAGE} if before else {"limit": HISTORY_PAGE}
        result = await self.client.call("messages.history", chat_id=chat_id, **page)
        messages = [Message.of(one) for one in result.get("messages", ())]
        self.book.put_page(chat_id, messages, more=result.get("has_more", False))

    def _load(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Does one thing of a key at a time."""
        if key in self._loading:
            work.close()
            return
        task = self._loading[key] = self._do(work, "Could not load")
        task.add_done_callback(lambda _: self._loading.pop(key, None))

    # ── the rest ────────────────────────────────────────────────────────────────────────────────────────────

    def _send(self, outgoing: Outgoing) -> None:
        self.book.queue(outgoing)
        self._told_typing.pop(outgoing.chat_id, None)

        async def send() -> None:
            try:
                sent = await self.client.send(outgoing.chat_id, outgoing.text, outgoing.client_msg_id)
            except RpcError as error:
                self.book.fail(outgoing.client_msg_id, str(error), again=error.may_pass)
            else:
                self.book.put_message(Message.of(sent))

        self._do(send(), "")

    def _put_chat(self, chat: dict[str, Any]) -> None:
        self.book.put_chat(Chat.of(chat))

    def _put_presence(self, presence: list[dict[str, Any]]) -> None:
        for one in map(Presence.of, presence):
            self.book.presence[one.user_id] = one

    def _watch(self, people: Any) -> None:
        """Asks how people are, and is told of changes for some minutes."""
        blocked = {chat.peer.user_id for chat in self.book.chats.values() if chat.blocked}
        asked = [one for one in dict.fromkeys(people) if one not in self._watched | blocked][:PRESENCE_PAGE]
        if asked and self.connection["name"] == "online":
            self._watched.update(asked)
            self._spawn(_quietly(self._ask_presence(asked)))

    async def _ask_presence(self, people: list[str]) -> None:
        result = await self.client.once("presence.get", user_ids=people)
        self._put_presence(result.get("presence", []))
        self._changed()

    async def _watch_people(self) -> None:
        while True:
            await asyncio.sleep(PRESENCE_SECONDS)
            self._watched.clear()
            self._watch(chat.peer.user_id for chat in self.book.listed())

    def _do(self, work: Awaitable[None], failed: str) -> "asyncio.Task[None]":
        """Does something in the background; the screen shows it before and after, and why it failed."""
        self._changed()

        async def done() -> None:
            try:
                await work
            except RpcError as error:
                self._complain(f"{failed}: {error}")
            finally:
                self._changed()

        return self._spawn(done())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _quietly(work: Awaitable[Any]) -> None:
    """What nobody misses when it fails."""
    with contextlib.suppress(RpcError):
        await work
