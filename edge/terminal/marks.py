"""Tells the server how far chats are read and delivered: one call a chat at a time, then the newest mark."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from edge.rpc import RpcError
from edge.terminal.book import Book

DELIVERED_SECONDS = 0.15
"""A burst of messages is one receipt."""


class Call(Protocol):
    """Calls a method of the contract."""

    def __call__(self, method: str, /, **params: Any) -> Awaitable[Any]:
        """Its result."""


class Marks:
    """What is to be told, and is not confirmed yet.

    Args:
        call: for chats.mark_read and chats.mark_delivered.
        book: knows how far chats are read already.
        put_chat: takes the chat that comes back.
    """

    def __init__(self, call: Call, book: Book, put_chat: Callable[[dict[str, Any]], None]) -> None:
        self._call = call
        self._book = book
        self._put_chat = put_chat
        self._up_to: dict[tuple[str, str], str] = {}
        self._telling: dict[tuple[str, str], asyncio.Task[None]] = {}

    def read(self, chat_id: str, up_to: str) -> None:
        """The user has read the chat up to there."""
        self._mark("read", chat_id, up_to, 0.0)

    def delivered(self, chat_id: str, up_to: str) -> None:
        """The device has received the chat up to there."""
        self._mark("delivered", chat_id, up_to, DELIVERED_SECONDS)

    def resume(self) -> None:
        """Tells what could not be told before."""
        for kind, chat_id in list(self._up_to):
            self._tell(kind, chat_id, 0.0)

    def _mark(self, kind: str, chat_id: str, up_to: str, after: float) -> None:
        self._up_to[kind, chat_id] = max(up_to, self._up_to.get((kind, chat_id), ""))
        self._tell(kind, chat_id, after)

    def _tell(self, kind: str, chat_id: str, after: float) -> None:
        key = kind, chat_id
        if key in self._telling:
            return
        task = self._telling[key] = asyncio.get_running_loop().create_task(self._told(kind, chat_id, after))
        task.add_done_callback(lambda _: self._telling.pop(key, None))

    async def _told(self, kind: str, chat_id: str, after: float) -> None:
        await asyncio.sleep(after)
        key = kind, chat_id
        while up_to := self._up_to.get(key, ""):
            chat = self._book.chats.get(chat_id)
            if kind == "delivered" and chat and up_to <= chat.read_up_to:  # who has read it has received it
                del self._up_to[key]
                return
            try:
                result = await self._call(f"chats.mark_{kind}", chat_id=chat_id, up_to=up_to)
            except RpcError as error:
                if not error.may_pass:
                    self._up_to.pop(key, None)
                return
            if self._up_to.get(key) == up_to:
                del self._up_to[key]
            if "chat" in result:
                self._put_chat(result["chat"])
