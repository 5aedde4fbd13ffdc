"""One device of one person, on a WebSocket, on long polling or on server-sent events.

It keeps the client contract and trusts nothing else: it comes back after every loss with jittered backoff and
the last event id that it has, repeats a send under the same key until it has an answer, and writes all down.
"""

import asyncio
import itertools
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, WebSocketException

from faults.history import Recorder

CALL_SECONDS = 12.0
"""How long a device waits for an answer; longer than any deadline of the server's."""

SILENCE_SECONDS = 30.0
"""How long a stream may be silent before it counts as lost; the server speaks every 15 s."""

FIRST_PAUSE, LAST_PAUSE = 0.1, 2.0

Heard = Callable[[str, dict[str, Any]], None]


class RpcError(Exception):
    """An error answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.code: int = error["code"]
        self.retryable = bool(error.get("data", {}).get("retryable"))


class UnknownOutcome(Exception):
    """No answer came: the call may have had its effect."""


class Device(ABC):
    """A device.

    Args:
        url: the messenger's address.
        user: whose it is.
        name: which one of the user's.
        token: of the user, good for the whole run.
        recorder: writes all down.
        heard: told of each notification, its method and params.
        chance: for jitter.

    Attributes:
        keeps_order: what it calls on one connection, the server gets in that order.
    """

    keeps_order = False

    def __init__(
        self,
        url: str,
        user: str,
        name: str,
        token: str,
        recorder: Recorder,
        heard: Heard,
        chance: random.Random,
    ) -> None:
        self.url = url
        self.user = user
        self.name = name
        self.token = token
        self.cursor = ""
        self.up = asyncio.Event()
        self.away = False
        self._recorder = recorder
        self._heard = heard
        self._chance = chance
        self._link = 0
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Comes; returns when it is there for the first time."""
        self.away = False
        self._task = asyncio.create_task(self._stay())
        await self.up.wait()

    async def leave(self) -> None:
        """Goes away, keeping its place."""
        self.away = True
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.up.clear()

    async def _stay(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._link += 1
            try:
                await self._session()
                pause = FIRST_PAUSE
            except _LOST:
                pause = FIRST_PAUSE if self.up.is_set() else min(pause * 2, LAST_PAUSE)
            finally:
                self.up.clear()
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.5))

    @abstractmethod
    async def _session(self) -> None:
        """One connection, until it is lost."""

    @abstractmethod
    async def _exchange(self, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request; raises UnknownOutcome where none came."""

    def _connected(self, recovered: bool) -> None:
        self._recorder.write(
            "connected", user=self.user, device=self.name, at=self._recorder.now(), recovered=recovered
        )
        self.up.set()

    def _take(self, note: dict[str, Any]) -> None:
        params = note["params"]
        if event_id := params.get("event_id"):
            self.cursor = event_id
            self._recorder.write(
                "event",
                user=self.user,
                device=self.name,
                at=self._recorder.now(),
                method=note["method"],
                params=params,
            )
        self._heard(note["method"], params)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one call, which goes out once.

        Raises:
            RpcError: the server's error.
            UnknownOutcome: no answer.
        """
        begin, link, outcome, answer = self._recorder.now(), self._link, "unknown", None
        number = next(self._numbers)
        try:
            reply = await self._exchange(number, method, params)
            outcome, answer = ("error", reply["error"]) if "error" in reply else ("ok", reply["result"])
        finally:
            self._recorder.write(
                "call", user=self.user, device=self.name, link=link, number=number * self.keeps_order,
                method=method, params=params, begin=begin, end=self._recorder.now(),
                outcome=outcome, answer=answer,
            )  # fmt: skip
        if outcome == "error":
            raise RpcError(answer)
        return dict(answer)

    async def insist(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of an idempotent call, repeated as the contract says until there is a definite answer.

        Raises:
            RpcError: an error that repeating does not help.
        """
        for pause in itertools.chain((0.05, 0.1, 0.2, 0.5), itertools.repeat(1.0)):
            await self.up.wait()
            try:
                return await self.call(method, **params)
            except UnknownOutcome:
                pass
            except RpcError as error:
                if not error.retryable:
                    raise
            await asyncio.sleep(pause * self._chance.uniform(0.5, 1.5))
        raise AssertionError("unreachable")


class SocketDevice(Device):
    """A device on a WebSocket."""

    keeps_order = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._socket: ClientConnection | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def _session(self) -> None:
        address = self.url.replace("http", "ws", 1) + "/ws"
        try:
            async with connect(
                address, open_timeout=5, close_timeout=1, ping_interval=5, ping_timeout=10, compression=None
            ) as socket:
                self._socket = socket
                reader = asyncio.create_task(self._read(socket))
                try:
                    params = {"token": self.token} | ({"last_event_id": self.cursor} if self.cursor else {})
                    reply = await self._exchange(next(self._numbers), "session.connect", params)
                    if "error" in reply:
                        return
                    begun = reply["result"]
                    self.cursor = self.cursor or begun["last_event_id"]
                    self._connected(begun.get("recovered", False))
                    await reader
                finally:
                    reader.cancel()
        finally:
            self._socket = None
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(UnknownOutcome())
            self._waiting.clear()

    async def _read(self, socket: ClientConnection) -> None:
        async for frame in socket:
            message = json.loads(frame)
            if "method" not in message:
                if (future := self._waiting.pop(message["id"], None)) and not future.done():
                    future.set_result(message)
            elif message["method"] == "session.reconnect":
                await asyncio.sleep(message["params"].get("after_ms", 0) / 1000)
                return
            else:
                self._take(message)

    async def _exchange(self, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if self._socket is None:
            raise UnknownOutcome
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_look_at)  # nobody else may be left to
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._socket.send(json.dumps(_request(number, method, params)), text=True)
                return dict(await future)
        except (TimeoutError, WebSocketException) as error:
            raise UnknownOutcome from error
        finally:
            self._waiting.pop(number, None)


def _request(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def _look_at(future: "asyncio.Future[dict[str, Any]]") -> None:
    if not future.cancelled():
        future.exception()


class HttpDevice(Device):
    """A device on the HTTP fallback: calls by POST, notifications by `_listen`."""

    async def _session(self) -> None:
        async with httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=httpx.Timeout(CALL_SECONDS, read=SILENCE_SECONDS, connect=5),
        ) as http:
            self._http = http
            if not self.cursor:
                begun = await self._exchange(next(self._numbers), "session.connect", {"token": ""})
                if "error" in begun:
                    return
                self.cursor = begun["result"]["last_event_id"]
            await self._listen(http)

    @abstractmethod
    async def _listen(self, http: httpx.AsyncClient) -> None:
        """Takes notifications until the connection is lost."""

    async def _exchange(self, number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                response = await self._http.post("/rpc", json=_request(number, method, params))
                reply: dict[str, Any] = response.json()
        except (TimeoutError, httpx.HTTPError, ValueError, RuntimeError) as error:
            raise UnknownOutcome from error
        return reply


class PollDevice(HttpDevice):
    """A device on `GET /events`."""

    async def _listen(self, http: httpx.AsyncClient) -> None:
        while True:
            response = await http.get("/events", params={"after": self.cursor, "wait": 10})
            if response.status_code != httpx.codes.OK:
                return
            page = response.json()
            if not self.up.is_set() or not page["recovered"]:
                self._connected(page["recovered"])
            for note in page["events"]:
                self._take(note)
            self.cursor = page["last_event_id"]


class StreamDevice(HttpDevice):
    """A device on `GET /events/stream`."""

    async def _listen(self, http: httpx.AsyncClient) -> None:
        headers = {"Last-Event-ID": self.cursor}
        async with http.stream("GET", "/events/stream", headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                return
            name = ""
            async for line in response.aiter_lines():
                if not line:
                    name = ""
                elif line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("id: ") and not self.up.is_set():
                    self._connected(recovered=True)
                elif line.startswith("data: ") and name == "lost":
                    self._connected(recovered=False)
                elif line.startswith("data: "):
                    self._take(json.loads(line.removeprefix("data: ")))


_LOST = (
    OSError,
    TimeoutError,
    UnknownOutcome,
    WebSocketException,
    InvalidHandshake,
    InvalidMessage,
    httpx.HTTPError,
    ValueError,
)

KINDS: dict[str, type[Device]] = {"socket": SocketDevice, "poll": PollDevice, "stream": StreamDevice}
