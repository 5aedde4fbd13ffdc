"""A user's device on one of the contract's transports: raw frames and bodies, calls, notifications.

It trusts nothing: what the reference client hides (repetition, order, catch-up) is what the suite looks at.
"""

import asyncio
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 15.0
"""Seconds that anything may take here; only failures wait so long."""

TRANSPORTS = ("ws", "http")


class RpcError(Exception):
    """An error answer, as it came."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error.get("data", {})


class Device(ABC):
    """One device of a user.

    Attributes:
        user_id: the user.
        events: every kept notification that has come, in order.
    """

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.events: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []
        self._ids = itertools.count(1)

    async def exchange(self, text: str | bytes) -> Any:
        """Sends one frame or body as it is; the parsed answer, or None where nothing is to be answered.

        What a busy system sheds is sent again when it says, as any client would.
        """
        async with asyncio.timeout(4 * PATIENCE):
            while True:
                answer = await self._exchange(text)
                pauses = list(_shed(answer if isinstance(answer, list) else [answer]))
                if not pauses:
                    return answer
                await asyncio.sleep(max(pauses))

    @abstractmethod
    async def _exchange(self, text: str | bytes) -> Any:
        """Sends once."""

    @abstractmethod
    async def close(self) -> None:
        """Goes away."""

    @abstractmethod
    async def begin(self, cursor: str) -> Any:
        """Begins anew behind a cursor; what the server says of that: `recovered`, `last_event_id`."""

    @abstractmethod
    async def _more(self) -> None:
        """Waits for further notifications and hands them to `_take`."""

    async def call(self, method: str, **params: Any) -> Any:
        """The result of one call.

        Raises:
            RpcError: the error that came instead.
        """
        request_id = next(self._ids)
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        answer = await self.exchange(json.dumps(request))
        assert answer["jsonrpc"] == "2.0"
        assert answer["id"] == request_id
        assert ("result" in answer) != ("error" in answer)
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    async def error(self, method: str, **params: Any) -> RpcError:
        """The error of a call that must fail."""
        try:
            result = await self.call(method, **params)
        except RpcError as error:
            return error
        raise AssertionError(f"{method} {params} went well: {result}")

    async def next(self, method: str, where: Callable[[Any], bool] = lambda _: True) -> Any:
        """The params of the next notification of this name; others stay for later."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for note in self._waiting:
                    if note["method"] == method and where(note["params"]):
                        self._waiting.remove(note)
                        return note["params"]
                await self._more()

    def _take(self, note: dict[str, Any]) -> None:
        assert note["jsonrpc"] == "2.0"
        assert "id" not in note
        event_id = note["params"].get("event_id")
        if event_id:
            if any(one["params"]["event_id"] == event_id for one in self.events):
                return  # delivery is at least once
            self.events.append(note)
        self._waiting.append(note)


class SocketDevice(Device):
    """A device on a WebSocket.

    Attributes:
        socket: the connection itself.
    """

    def __init__(self, user_id: str, socket: ClientConnection) -> None:
        super().__init__(user_id)
        self.socket = socket
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self._arrived = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _exchange(self, text: str | bytes) -> Any:
        await self.socket.send(text, text=True)
        return await self.answer()

    async def answer(self) -> Any:
        """The next frame that is no notification."""
        return await asyncio.wait_for(self._answers.get(), PATIENCE)

    async def closed(self) -> tuple[int, str]:
        """Waits until the socket is closed; code and reason."""
        await asyncio.wait_for(self.socket.wait_closed(), PATIENCE)
        return self.socket.close_code or 0, self.socket.close_reason or ""

    async def close(self) -> None:
        """See `Device`."""
        await self.socket.close()
        await self._reader

    async def begin(self, cursor: str) -> Any:
        """See `Device`."""
        return await self.call("session.connect", last_event_id=cursor)

    async def _more(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                assert isinstance(frame, str), "JSON-RPC travels in text frames"
                message = json.loads(frame)
                if isinstance(message, dict) and "method" in message:
                    self._take(message)
                    self._arrived.set()
                else:
                    self._answers.put_nowait(message)
        except ConnectionClosed:
            pass


class HttpDevice(Device):
    """A device on the HTTP fallback.

    Attributes:
        http: the client, with the token in its headers.
        response: the last response to `exchange`.
    """

    def __init__(self, user_id: str, http: httpx.AsyncClient, cursor: str) -> None:
        super().__init__(user_id)
        self.http = http
        self.cursor = cursor
        self.response: httpx.Response | None = None

    async def _exchange(self, text: str | bytes) -> Any:
        self.response = await self.http.post(
            "/rpc", content=text, headers={"Content-Type": "application/json"}
        )
        return self.response.json() if self.response.content else None

    async def close(self) -> None:
        """See `Device`."""
        await self.http.aclose()

    async def begin(self, cursor: str) -> Any:
        """See `Device`."""
        self.cursor = cursor
        return await self._page(wait=0)

    async def _more(self) -> None:
        assert (await self._page(wait=10))["recovered"]

    async def _page(self, wait: float) -> Any:
        response = await self.http.get("/events", params={"after": self.cursor, "wait": wait})
        assert response.status_code == 200, response.text
        page = response.json()
        self.cursor = page["last_event_id"]
        for note in page["events"]:
            self._take(note)
        return page


def _shed(answers: list[Any]) -> Iterator[float]:
    """Seconds after which each shed call may come again."""
    for answer in answers:
        data = (answer or {}).get("error", {}).get("data", {})
        if data.get("reason") == "SHED":
            yield data["retry_after_ms"] / 1000


async def open_device(transport: str, url: str, user_id: str, token: str, last_event_id: str = "") -> Device:
    """A device that is connected and hears its user's events from now on, or from a cursor on."""
    if transport == "http":
        http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE, trust_env=False
        )
        cursor = last_event_id or (await http.get("/events", params={"wait": 0})).json()["last_event_id"]
        return HttpDevice(user_id, http, cursor)
    device = await open_socket(url, user_id)
    params = {"token": token, "last_event_id": last_event_id} if last_event_id else {"token": token}
    await device.call("session.connect", **params)
    return device


async def open_socket(
    url: str, user_id: str, *, headers: dict[str, str] | None = None, subprotocols: list[Any] | None = None
) -> SocketDevice:
    """A WebSocket without a session."""
    socket = await connect(
        url.replace("http", "ws", 1) + "/ws",
        additional_headers=headers,
        subprotocols=subprotocols,
        max_size=None,
        compression=None,
        open_timeout=PATIENCE,
        proxy=None,
    )
    return SocketDevice(user_id, socket)
