"""Fills the holes that pushes leave in a client's chats. Which there are, `tracking.Gaps` knows."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from edge.tracking import Gaps

PAGES = 5
PAGE = 100


class Call(Protocol):
    """Calls a method of the contract."""

    def __call__(self, method: str, /, **params: Any) -> Awaitable[Any]:
        """Its result."""


class Holes:
    """Watches the seqs of what comes in, and reads from the history what is missing.

    Args:
        call: for messages.history.
        hand_on: takes what was missing, as `message.new`, and `resync` where the history cannot tell.
        spawn: runs work in the background.
        grace: seconds for a hole to close by itself: pushes overtake each other.
    """

    def __init__(
        self,
        call: Call,
        hand_on: Callable[[str, dict[str, Any]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        grace: float,
    ) -> None:
        self._call = call
        self._hand_on = hand_on
        self._spawn = spawn
        self._grace = grace
        self._gaps = Gaps()
        self._filling: set[str] = set()

    def hold(self, message: dict[str, Any]) -> None:
        """A message is held."""
        self._gaps.hold(message["chat_id"], message["seq"])
        self._look(message["chat_id"])

    def expect(self, chat: dict[str, Any]) -> None:
        """The messages of a chat go up to its seq, held or not."""
        self._gaps.expect(chat["chat_id"], chat.get("seq", 0))
        self._look(chat["chat_id"])

    def learn(self, method: str, result: dict[str, Any]) -> None:
        """Takes from a result which messages are held and which must exist."""
        if method == "messages.send":
            self.hold(result["message"])
        if method == "messages.history":
            for message in result.get("messages", ()):
                self._gaps.hold_of_known(message["chat_id"], message["seq"])
        for chat in [*result.get("chats", ()), *([result["chat"]] if "chat" in result else ())]:
            self.expect(chat)

    def forget(self) -> None:
        """Begins anew with all chats."""
        self._gaps.forget()

    def resume(self) -> None:
        """Looks again for what could not be read before."""
        for chat_id in self._gaps.incomplete():
            self._look(chat_id)

    def _look(self, chat_id: str) -> None:
        if self._gaps.missing(chat_id) and chat_id not in self._filling:
            self._filling.add(chat_id)
            self._spawn(self._fill(chat_id))

    async def _fill(self, chat_id: str) -> None:
        """Fetches what is missing; where the history cannot be read now, `resume` begins it again."""
        try:
            await asyncio.sleep(self._grace)
            await self._read_back(chat_id)
        finally:
            self._filling.discard(chat_id)
        if self._gaps.missing(chat_id):
            self._gaps.forget(chat_id)
            self._hand_on("resync", {"chat_id": chat_id})

    async def _read_back(self, chat_id: str) -> None:
        """Newest page first: seq is not quite the order of message_id."""
        before: dict[str, str] = {}
        for _ in range(PAGES):
            if not self._gaps.missing(chat_id):
                return
            page = await self._call("messages.history", chat_id=chat_id, limit=PAGE, **before)
            messages = page.get("messages", [])
            for message in messages:
                if message["seq"] in self._gaps.missing(chat_id):
                    self._gaps.hold(chat_id, message["seq"])
                    self._hand_on("message.new", {"message": message})
            if not page.get("has_more") or not messages:
                return
            before = {"before": messages[0]["message_id"]}
