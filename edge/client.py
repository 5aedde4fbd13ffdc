"""The reference client: a session that is kept alive, calls as coroutines, notifications as an iterator.

    async with Client("http://127.0.0.1:8000", token) as client:
        chat = (await client.call("chats.open", peer_id="bob"))["chat"]
        await client.send(chat["chat_id"], "Hello")
        async for note in client:
            print(note.method, note.params)

It behaves as web/messenger.js does, and is built alike: links, rpc and tracking are its parts.

- A call is repeated (after a lost connection, a throttle, a part that is down) until it is answered for good
  or its time is up. Every method of the contract is idempotent; a send keeps its client_msg_id.
- Sends to one chat go one after the other, in the order of the calls.
- A notification is handed on once, and after a reconnect those that were missed follow.
- A hole in a chat's seq is filled by messages.history: those come as `message.new` without an event_id.

Besides the notifications of the contract the iterator gives `state` (see `Client.state`), `session` (the
result of each session.connect) and `resync`: what was handed on may have holes that nothing will fill, so ask
for the state again (of `chat_id`, where it is there).
"""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from edge.comeback import Comeback, Hooks, Refresh
from edge.holes import Holes
from edge.lanes import Lanes
from edge.links import Frame, Times
from edge.rpc import DEADLINE, UNAUTHENTICATED, UNAVAILABLE, Ended, RpcError, failure
from edge.tracking import Backoff, Seen

__all__ = ["Client", "Notification", "RpcError"]

MAX_WAITING = 10_000
"""Notifications that may wait for their reader; beyond it they are dropped and `resync` says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What the server told unasked, under the contract's names, or what became of the connection."""

    method: str
    params: dict[str, Any]


class Client:
    """One user's client.

    Args:
        url: the messenger's address, `http(s)://host:port`.
        token: a JWT.
        refresh: gets a younger token when this one ends; without it the session ends with the token.
        last_event_id: where an earlier client of this device stopped.
        call_seconds: how long one call may take with all its repetitions.
        send_seconds: the same for `send`, from when it was called.
        backoff: pauses between attempts.
        times: how long everything else may take.

    Attributes:
        last_event_id: of the last notification that was handed on; keep it to catch up from there.
        session: the result of the last session.connect.
        state: `{"name": …}`, one of `connecting`; `online`, with `transport` (`websocket` or `http`);
            `waiting`, will come back at `retry_at` (Unix time, seconds); `closed`, for good, with the close
            `code` and `reason` where the server asked for it.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        refresh: Refresh | None = None,
        last_event_id: str = "",
        call_seconds: float = 15.0,
        send_seconds: float = 60.0,
        backoff: Backoff = Backoff(),  # noqa: B008  # frozen
        times: Times = Times(),  # noqa: B008  # frozen
    ) -> None:
        self.last_event_id = last_event_id
        self.session: dict[str, Any] = {}
        self.state: dict[str, Any] = {"name": "connecting"}
        self._call_seconds = call_seconds
        self._send_seconds = send_seconds
        self._sessions = Comeback(
            url,
            token,
            refresh=refresh,
            backoff=backoff,
            times=times,
            hooks=Hooks(
                cursor=lambda: self.last_event_id,
                begin=self._begin,
                receive=self._receive,
                state=self._set_state,
            ),
        )
        self._ids = itertools.count(1)
        self._requests: dict[int, tuple[Frame, asyncio.Future[Any]]] = {}
        self._notes: asyncio.Queue[Notification | None] = asyncio.Queue()
        self._seen = Seen()
        self._holes = Holes(self._read, self._hand_on, self._spawn, times.grace)
        self._lanes = Lanes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed: RpcError | None = None
        self._first: asyncio.Future[None] | None = None

    @property
    def user_id(self) -> str:
        """The user that the token speaks for; empty before the first session."""
        return str(self.session.get("user_id", ""))

    def start(self) -> None:
        """Begins to connect, and returns at once: what becomes of it is told by `state`."""
        self._start()

    def _start(self) -> asyncio.Future[None]:
        self._first = asyncio.get_running_loop().create_future()
        self._first.add_done_callback(lambda first: first.cancelled() or first.exception())  # looked at
        self._spawn(self._run())
        return self._first

    async def __aenter__(self) -> Self:
        """Connects.

        Raises:
            RpcError: the server refuses the session for good.
        """
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Leaves."""
        await self.aclose()

    async def aclose(self) -> None:
        """Leaves; calls that are not answered yet fail."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end(failure(UNAVAILABLE, "CLIENT_CLOSED", "The client was closed."), Ended(code=1000))

    async def __aiter__(self) -> AsyncIterator[Notification]:
        """Notifications in the order of their coming, until the client is closed or refused for good."""
        while (note := await self._notes.get()) is not None:
            yield note
        self._notes.put_nowait(None)  # for other readers, and for the next loop

    def wake(self) -> None:
        """Says that the network or the user is back: waits no longer, or sees whether the other side is."""
        self._spawn(self._sessions.wake())

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────

    async def call(self, method: str, /, **params: Any) -> Any:
        """The result of a method of the contract.

        Raises:
            RpcError: it was refused for good, or its time is up.
        """
        result = await self._repeat(method, params, time.monotonic() + self._call_seconds)
        self._holes.learn(method, result)
        return result

    async def once(self, method: str, /, **params: Any) -> Any:
        """As `call`, for what is not worth repeating.

        Raises:
            RpcError: it was refused, or its time is up.
        """
        result = await self._request(method, params, time.monotonic() + self._call_seconds)
        self._holes.learn(method, result)
        return result

    async def send(self, chat_id: str, text: str, client_msg_id: str = "") -> Any:
        """Sends a message, after those to the same chat that were sent before; its own copy.

        Raises:
            RpcError: as `call`. With the same `client_msg_id` the same call may be made again.
        """
        deadline = time.monotonic() + self._send_seconds
        params = {"chat_id": chat_id, "text": text, "client_msg_id": client_msg_id or str(uuid.uuid4())}
        async with self._lanes.enter(chat_id):
            result = await self._repeat("messages.send", params, deadline)
        self._holes.learn("messages.send", result)
        return result["message"]

    async def _read(self, method: str, /, **params: Any) -> Any:
        """As `call`, for the holes, which hand on what they learn."""
        return await self._repeat(method, params, time.monotonic() + self._call_seconds)

    async def _repeat(self, method: str, params: dict[str, Any], deadline: float) -> Any:
        for failures in itertools.count():
            try:
                return await self._request(method, params, deadline)
            except RpcError as error:
                pause = error.retry_after_ms / 1000 + self._sessions.pause(failures)
                if not error.retryable or time.monotonic() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError  # the count has no end

    async def _request(self, method: str, params: dict[str, Any], deadline: float) -> Any:
        if self._closed is not None:
            raise self._closed
        request: Frame = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        answer = asyncio.get_running_loop().create_future()
        self._requests[request["id"]] = request, answer
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                if self._sessions.link is not None:
                    await self._sessions.link.send(request)
                return await answer
        except TimeoutError:
            raise failure(DEADLINE, "CLIENT_TIMEOUT", f"No answer to {method} in time.") from None
        finally:
            del self._requests[request["id"]]

    # ── the session ─────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        ended = await self._sessions.run()
        reason = ended.reason or "Refused."
        self._end(failure(UNAUTHENTICATED, f"CLIENT_CLOSED_{ended.code}", reason), ended)

    def _begin(self, session: Frame) -> None:
        """Takes up where the last session ended, and sends again what has no answer yet."""
        lost = bool(self.last_event_id) and not session.get("recovered", False)
        if lost or not self.last_event_id:
            self.last_event_id = session.get("last_event_id", "")
        self.session = session
        if self._sessions.link is not None:
            for request, _ in self._requests.values():
                self._spawn(self._sessions.link.send(request))
        self._hand_on("session", session)
        if lost:
            self._holes.forget()
            self._hand_on("resync", {})
        self._holes.resume()
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    async def _refresh_session(self) -> None:
        if await self._sessions.renew():
            await self.call("session.refresh", token=self._sessions.token)

    def _end(self, error: RpcError, ended: Ended) -> None:
        if self._closed is not None:
            return
        self._closed = error
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)
        for _, answer in self._requests.values():
            if not answer.done():
                answer.set_exception(error)
        self._set_state({"name": "closed", "code": ended.code, "reason": ended.reason})
        self._notes.put_nowait(None)

    # ── what comes in ───────────────────────────────────────────────────────────────────────────────────────

    def _receive(self, frame: Frame) -> None:
        if "method" in frame:
            self._notice(frame["method"], frame.get("params", {}))
            return
        _, answer = self._requests.get(frame.get("id") or 0, (None, None))
        if answer is None or answer.done():
            return
        if "error" in frame:
            answer.set_exception(RpcError(frame["error"]))
        else:
            answer.set_result(frame.get("result"))

    def _notice(self, method: str, params: dict[str, Any]) -> None:
        event_id = params.get("event_id", "")
        if event_id and not self._seen.add(event_id):
            return
        self._hand_on(method, params)
        self.last_event_id = event_id or self.last_event_id
        match method:
            case "message.new":
                self._holes.hold(params["message"])
            case "chat.updated":
                self._holes.expect(params["chat"])
            case "session.expiring":
                self._spawn(self._refresh_session())
            case "session.reconnect":
                self._sessions.leave(params.get("after_ms", 0) / 1000)

    def _hand_on(self, method: str, params: dict[str, Any]) -> None:
        if self._notes.qsize() >= MAX_WAITING:
            while not self._notes.empty():
                self._notes.get_nowait()
            self._notes.put_nowait(Notification(method="resync", params={}))
        self._notes.put_nowait(Notification(method=method, params=params))

    def _set_state(self, state: dict[str, Any]) -> None:
        self.state = state
        self._hand_on("state", state)

    # ── in the background ──────────────────────────────────────────────────────────────────────────────────

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Work whose calls may fail: a later event or session begins it again."""
        try:
            with contextlib.suppress(RpcError):
                await work
        except Exception as error:
            failed = failure(UNAVAILABLE, "CLIENT_FAILED", f"The client failed: {error!r}")
            self._end(failed, Ended(code=1000, reason=str(failed)))
            raise
