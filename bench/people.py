"""Users of the load generator: their sessions, the calls that prepare a scenario, and what they write."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from bench.rig import Address
from bench.sockets import Kind, Socket, call, kind_of, number_of

T = TypeVar("T")

AT_ONCE = 64
"""Users that are prepared side by side."""

CALL_S = 30.0

# Real messages are short and seldom alike; the words are the NATO alphabet's.
WORDS = (
    "alfa", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india",
    "juliett", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo",
    "sierra", "tango", "uniform", "victor", "whiskey", "xray", "yankee", "zulu",
)  # fmt: skip


def text_of(number: int) -> str:
    """A short text that tells its number: `#17 kilo mike oscar`."""
    words = (WORDS[number * step % len(WORDS)] for step in (1, 7, 11))
    return f"#{number} {' '.join(words)}"


class Person:
    """A user with one session.

    Args:
        user_id: a user of its own.

    Attributes:
        socket: for those who count every frame.
        session: the result of session.connect.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.socket = Socket(self._take, self._closed)
        self.session: dict[str, Any] = {}
        self._gone = False
        self._hear: Callable[[bytes], None] = lambda _: None
        self._lost: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}

    async def connect(self, address: Address, which: int, source: str, **cursor: str) -> None:
        """Opens a session at the address's port number `which`; `cursor` may hold a `last_event_id`."""
        await self.socket.open("127.0.0.1", address.ports[which % len(address.ports)], source)
        token = address.token(self.user_id)
        self.session = await self.call("session.connect", token=token, **cursor)

    def heard_by(self, hear: Callable[[bytes], None]) -> None:
        """Hands notifications to somebody."""
        self._hear = hear

    def lost_by(self, lost: Callable[[], None]) -> None:
        """Tells somebody when the connection is gone; at once where it is."""
        self._lost = lost
        if self._gone:
            lost()

    async def call(self, method: str, **params: Any) -> Any:
        """The result of a call; one that is shed is made again, as the server asks for.

        Raises:
            RuntimeError: it was answered with an error.
            ConnectionResetError: the connection went first.
        """
        until = time.monotonic() + CALL_S
        while True:
            text = await self._ask(method, params)
            if kind_of(text) is not Kind.ERROR:
                return msgspec.json.decode(text)["result"]
            pause = msgspec.json.decode(text)["error"]["data"].get("retry_after_ms", 0) / 1000
            if not pause or time.monotonic() + pause > until:
                raise RuntimeError(f"{method}: {text.decode()}")
            await asyncio.sleep(pause)

    async def _ask(self, method: str, params: dict[str, Any]) -> bytes:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.socket.send(call(method, msgspec.json.encode(params).decode(), number))
        return await asyncio.wait_for(answer, CALL_S)

    def _take(self, text: bytes) -> None:
        if kind_of(text) is Kind.NOTIFICATION:
            self._hear(text)
        elif not (answer := self._waiting.pop(number_of(text))).done():
            answer.set_result(text)

    def _closed(self) -> None:
        self._gone = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError("closed before the answer"))
        self._lost()


async def side_by_side(
    work: Callable[..., Awaitable[T]], arguments: Iterable[Sequence[Any]], at_once: int = AT_ONCE
) -> list[T]:
    """Does the work once for each arguments, some at once; its results in order."""
    slots = asyncio.Semaphore(at_once)

    async def one(of_one: Sequence[Any]) -> T:
        async with slots:
            return await work(*of_one)

    return await asyncio.gather(*(one(of_one) for of_one in arguments))
