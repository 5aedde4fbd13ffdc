"""The reference client: a session that is kept alive, calls as coroutines, notifications as an iterator.

    async with Client("http://127.0.0.1:8000", token) as client:
        chat = (await client.call("chats.open", peer_id="bob"))["chat"]
        await client.send(chat["chat_id"], "Hello")
        async for note in client:
            print(note.method, note.params)

- A call is repeated, after a lost connection, a throttle, a part that is down, until it is answered for good
  or its time is up. Every method of the contract is idempotent; a send keeps its client_msg_id.
- A notification is handed on once, and after a reconnect those that were missed follow.
- A hole in a chat's seq is filled by messages.history: those come as `message.new` without an event_id.
- `resync` says that something is missing for good: ask for the state again (of `chat_id`, where it is there).
"""

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from edge.tracking import Backoff, Gaps, Seen, comes_back

UNAUTHENTICATED, DEADLINE, UNAVAILABLE = -32016, -32004, -32014
NOT_AUTHENTICATED, TOKEN_EXPIRED = 4501, 4502

MAX_WAITING = 10_000
"""Notifications that may wait for their reader; beyond it they are dropped and `resync` says so."""

GAP_GRACE = 0.4
"""Seconds for a hole in seq to close by itself: pushes overtake each other."""

GAP_PAGES = 5
GAP_PAGE = 100

OPEN_SECONDS = 10.0
"""For a session to begin."""

STABLE_SECONDS = 10.0
"""A session that lived for so long wipes out the failures before it."""

Refresh = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What the server told unasked, under the contract's names."""

    method: str
    params: dict[str, Any]


class RpcError(Exception):
    """An error answer.

    Attributes:
        code: JSON-RPC's; `reason`, `retryable`, `retry_after_ms` and `trace_id` are the error's data.
    """

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        data = error.get("data") or {}
        self.code: int = error["code"]
        self.reason: str = data.get("reason", "")
        self.retryable: bool = data.get("retryable", False)
        self.retry_after_ms: int = data.get("retry_after_ms", 0)
        self.trace_id: str = data.get("trace_id", "")


def _error(code: int, reason: str, message: str) -> RpcError:
    return RpcError({"code": code, "message": message, "data": {"reason": reason}})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How a session ended; `pause` is the seconds that the server asked for."""

    code: int
    reason: str = ""
    pause: float | None = None


class Client:
    """One user's client.

    Args:
        url: the messenger's address, `http(s)://host:port`.
        token: a JWT.
        refresh: gets a younger token when this one ends; without it the session ends with the token.
        last_event_id: where an earlier client of this device stopped.
        call_seconds: how long one call may take with all its repetitions.
        backoff: pauses between attempts.

    Attributes:
        last_event_id: of the last notification that was received; keep it to catch up from there.
        session: the result of the last session.connect.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh: Refresh | None = None,
        last_event_id: str = "",
        call_seconds: float = 15.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
    ) -> None:
        self.last_event_id = last_event_id
        self.session: dict[str, Any] = {}
        self._url = url.replace("http", "ws", 1).rstrip("/") + "/ws"
        self._token = token
        self._refresh = refresh
        self._call_seconds = call_seconds
        self._backoff = backoff
        self._ids = itertools.count(1)
        self._open: dict[int, tuple[bytes, asyncio.Future[Any]]] = {}
        self._connection: ClientConnection | None = None
        self._online = False
        self._return_at: float | None = None
        self._notes: asyncio.Queue[Notification | None] = asyncio.Queue()
        self._seen = Seen()
        self._gaps = Gaps()
        self._lanes: dict[str, asyncio.Lock] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed: RpcError | None = None

    async def __aenter__(self) -> Self:
        """Connects.

        Raises:
            RpcError: the server refuses the session for good.
        """
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spawn("run", self._run())
        try:
            await self._first
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Leaves; calls that are not answered yet fail."""
        for task in tuple(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._end(_error_closed())

    async def __aiter__(self) -> AsyncIterator[Notification]:
        """Notifications in the order of their coming, until the client is closed or refused for good."""
        while (note := await self._notes.get()) is not None:
            yield note
        self._notes.put_nowait(None)  # for other readers, and for the next loop

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────

    async def call(self, method: str, /, **params: Any) -> Any:
        """The result of a method of the contract.

        Raises:
            RpcError: it was refused for good, or its time is up.
        """
        deadline = time.monotonic() + self._call_seconds
        for failures in itertools.count():
            try:
                result = await self._request(method, params, deadline)
            except RpcError as error:
                pause = error.retry_after_ms / 1000 + self._backoff.pause(failures, random.random())  # noqa: S311
                if not error.retryable or time.monotonic() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
            else:
                self._learn(method, result)
                return result
        raise AssertionError  # the count has no end

    async def send(self, chat_id: str, text: str, client_msg_id: str = "") -> Any:
        """Sends a message, after those to the same chat that were sent before; its own copy.

        Raises:
            RpcError: as `call`. With the same `client_msg_id` the same call may be made again.
        """
        key = client_msg_id or str(uuid.uuid4())
        async with self._lanes.setdefault(chat_id, asyncio.Lock()):
            sent = await self.call("messages.send", chat_id=chat_id, text=text, client_msg_id=key)
        return sent["message"]

    async def _request(self, method: str, params: dict[str, Any], deadline: float) -> Any:
        if self._closed is not None:
            raise self._closed
        request_id = next(self._ids)
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        frame, future = msgspec.json.encode(body), asyncio.get_running_loop().create_future()
        self._open[request_id] = frame, future
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                if self._online:
                    await self._write(frame)
                return await future
        except TimeoutError:
            raise _error(DEADLINE, "CLIENT_TIMEOUT", f"No answer to {method} in time.") from None
        finally:
            del self._open[request_id]

    async def _write(self, frame: bytes) -> None:
        try:
            assert self._connection is not None  # noqa: S101  # online
            await self._connection.send(frame, text=True)
        except ConnectionClosed:
            pass  # it is sent again in the next session

    # ── the session ─────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            ended = await self._session()
            if not comes_back(ended.code) and not await self._renewed(ended.code):
                self._end(_error(UNAUTHENTICATED, f"CLIENT_CLOSED_{ended.code}", ended.reason or "Refused."))
                return
            failures = 0 if time.monotonic() - started > STABLE_SECONDS else failures
            pause = self._backoff.pause(failures, random.random()) if ended.pause is None else ended.pause  # noqa: S311
            failures += 1
            await asyncio.sleep(pause)

    async def _session(self) -> _Ended:
        """One connection from its beginning to its end."""
        self._return_at = None
        try:
            async with connect(
                self._url, subprotocols=[Subprotocol("jsonrpc-2.0")], compression=None, max_size=None
            ) as connection:
                self._connection = connection
                async with asyncio.timeout(OPEN_SECONDS):
                    refused = await self._begin(connection)
                if refused is not None:
                    return refused
                while True:
                    self._receive(msgspec.json.decode(await connection.recv()))
        except ConnectionClosed as closed:
            pause = None if self._return_at is None else max(0.0, self._return_at - time.monotonic())
            frame = closed.rcvd
            return _Ended(
                code=frame.code if frame else 1006, reason=frame.reason if frame else "", pause=pause
            )
        except (OSError, TimeoutError, InvalidHandshake) as error:
            return _Ended(code=1006, reason=str(error))
        finally:
            self._online = False

    async def _begin(self, connection: ClientConnection) -> _Ended | None:
        """Authenticates, takes up where the last session ended, and sends again what has no answer yet."""
        params = {"token": self._token, "last_event_id": self.last_event_id}
        body = {"jsonrpc": "2.0", "id": 0, "method": "session.connect", "params": params}
        await connection.send(msgspec.json.encode(body), text=True)
        while (answer := msgspec.json.decode(await connection.recv())).get("id") != 0:
            self._receive(answer)
        if "error" in answer:
            error = RpcError(answer["error"])
            may_pass = error.code != UNAUTHENTICATED and (error.retryable or error.code == -32603)
            code = 1006 if may_pass else NOT_AUTHENTICATED
            return _Ended(code=code, reason=str(error), pause=error.retry_after_ms / 1000 or None)
        self._take_up(answer["result"])
        waiting = tuple(self._open.values())
        self._online = True  # from here on calls send themselves
        for frame, _ in waiting:
            await connection.send(frame, text=True)
        if not self._first.done():
            self._first.set_result(None)
        return None

    def _take_up(self, session: dict[str, Any]) -> None:
        lost = bool(self.last_event_id) and not session.get("recovered", False)
        if lost or not self.last_event_id:
            self.last_event_id = session.get("last_event_id", "")
        if lost:
            self._gaps.forget()
            self._hand_on("resync", {})
        self.session = session

    async def _renewed(self, close_code: int) -> bool:
        """Gets another token, where that is what the server asks for."""
        if close_code not in (NOT_AUTHENTICATED, TOKEN_EXPIRED) or self._refresh is None:
            return False
        before = self._token
        self._token = await self._refresh() or before
        return self._token != before

    async def _refresh_session(self) -> None:
        if await self._renewed(TOKEN_EXPIRED):
            await self.call("session.refresh", token=self._token)

    async def _leave(self, connection: ClientConnection, after: float) -> None:
        """Ends a session whose edge goes away, unless that has happened by then."""
        await asyncio.sleep(after)
        await connection.close()

    def _end(self, error: RpcError) -> None:
        self._closed = self._closed or error
        if not self._first.done():
            self._first.set_exception(error)
        for _, future in self._open.values():
            if not future.done():
                future.set_exception(error)
        self._notes.put_nowait(None)

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self._notice(message["method"], message.get("params", {}))
            return
        _, future = self._open.get(message.get("id") or 0, (b"", None))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(RpcError(message["error"]))
        else:
            future.set_result(message.get("result"))

    def _notice(self, method: str, params: dict[str, Any]) -> None:
        event_id = params.get("event_id", "")
        if event_id:
            self.last_event_id = event_id
            if not self._seen.add(event_id):
                return
        self._hand_on(method, params)
        match method:
            case "message.new":
                self._hold(params["message"])
            case "chat.updated":
                self._expect(params["chat"])
            case "session.expiring":
                self._spawn("refresh", self._refresh_session())
            case "session.reconnect":
                after = params.get("after_ms", 0) / 1000
                self._return_at = time.monotonic() + after
                if self._connection is not None:
                    self._spawn("leave", self._leave(self._connection, after))

    def _hand_on(self, method: str, params: dict[str, Any]) -> None:
        if self._notes.qsize() >= MAX_WAITING:
            while not self._notes.empty():
                self._notes.get_nowait()
            method, params = "resync", {}
        self._notes.put_nowait(Notification(method=method, params=params))

    # ── holes ───────────────────────────────────────────────────────────────────────────────────────────────

    def _learn(self, method: str, result: dict[str, Any]) -> None:
        """Takes from a result which messages are held and which must exist."""
        if method == "messages.send":
            self._hold(result["message"])
        for chat in [*result.get("chats", ()), *([result["chat"]] if "chat" in result else ())]:
            self._expect(chat)

    def _hold(self, message: dict[str, Any]) -> None:
        self._gaps.hold(message["chat_id"], message["seq"])
        self._look(message["chat_id"])

    def _expect(self, chat: dict[str, Any]) -> None:
        self._gaps.expect(chat["chat_id"], chat.get("seq", 0))
        self._look(chat["chat_id"])

    def _look(self, chat_id: str) -> None:
        if self._gaps.missing(chat_id) and f"fill {chat_id}" not in self._tasks:
            self._spawn(f"fill {chat_id}", self._fill(chat_id))

    async def _fill(self, chat_id: str) -> None:
        """Fetches what is missing, the newest page first: seq is not quite the order of message_id."""
        await asyncio.sleep(GAP_GRACE)
        before: dict[str, str] = {}
        for _ in range(GAP_PAGES):
            if not self._gaps.missing(chat_id):
                return
            page = await self.call("messages.history", chat_id=chat_id, limit=GAP_PAGE, **before)
            messages = page.get("messages", [])
            for message in messages:
                if message["seq"] in self._gaps.missing(chat_id):
                    self._gaps.hold(chat_id, message["seq"])
                    self._hand_on("message.new", {"message": message})
            if not page.get("has_more"):
                break
            before = {"before": messages[0]["message_id"]}
        if self._gaps.missing(chat_id):
            self._gaps.forget(chat_id)
            self._hand_on("resync", {"chat_id": chat_id})

    def _spawn(self, name: str, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work), name=name)
        self._tasks[name] = task
        task.add_done_callback(
            lambda done: self._tasks.pop(name, None) if self._tasks.get(name) is done else None
        )

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Background work whose failure is told by what it did not do: a later event begins it again."""
        try:
            await work
        except RpcError:
            self._hand_on("resync", {})
        except Exception as error:
            self._end(_error(UNAVAILABLE, "CLIENT_FAILED", f"The client failed: {error!r}"))
            raise


def _error_closed() -> RpcError:
    return _error(UNAVAILABLE, "CLIENT_CLOSED", "The client was closed.")
