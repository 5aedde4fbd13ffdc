"""Links: what carries frames between a client and the messenger, one session long; the twin of web/links.js.

A WebSocket, or HTTP where none gets through. Nothing here is repeated: the client decides what follows.
"""

import asyncio
import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from edge.rpc import (
    INTERNAL,
    LOST,
    NOT_AUTHENTICATED,
    REFUSED,
    THROTTLED,
    UNAVAILABLE,
    Ended,
    RpcError,
    refused,
    subject,
)

Frame: TypeAlias = dict[str, Any]

CLOSE_SECONDS = 1.0
"""For the other side's word of farewell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long things may take, in seconds.

    Attributes:
        open: a session to begin.
        silence: the server to say nothing, before a ping; and as long again to answer it.
        grace: a hole in seq to close by itself: pushes overtake each other.
        stable: a session that lived so long wipes out the failures before it.
        wait: one call to /events.
        poll: on HTTP, before WebSocket is tried again; doubles with every failure, up to `poll_most`.
    """

    open: float = 8.0
    silence: float = 20.0
    grace: float = 0.4
    stable: float = 10.0
    wait: float = 25.0
    poll: float = 30.0
    poll_most: float = 600.0


class Link(ABC):
    """One session.

    Args:
        url: the messenger's address, `http(s)://host:port`.
        times: how long things may take.
        receive: takes every frame, answers and notifications, but for the answer to session.connect.

    Attributes:
        transport: `websocket` or `http`.
        opened: this kind of link gets through.
    """

    transport: str

    def __init__(self, url: str, times: Times, receive: Callable[[Frame], None]) -> None:
        self.opened = False
        self._url = url
        self._times = times
        self._receive = receive
        self._life = asyncio.timeout(None)

    async def run(self, token: str, cursor: str, begin: Callable[[Frame], None]) -> Ended:
        """The session from its beginning, which `begin` is told, to its end."""
        try:
            async with self._life:
                return await self._live(token, cursor, begin)
        except TimeoutError:
            return Ended(code=LOST, reason="No answer")

    def end_in(self, seconds: float) -> None:
        """Ends it after a time, unless it has ended by then; that takes the place of what was set before."""
        with contextlib.suppress(RuntimeError):  # it is over
            self._life.reschedule(asyncio.get_running_loop().time() + seconds)

    @abstractmethod
    async def _live(self, token: str, cursor: str, begin: Callable[[Frame], None]) -> Ended: ...

    @abstractmethod
    async def send(self, request: Frame) -> None:
        """Takes a request; its answer comes to `receive`, or the link ends."""

    @abstractmethod
    async def check(self) -> None:
        """Ends it unless the other side is still there."""


class SocketLink(Link):
    """A WebSocket."""

    transport = "websocket"
    _socket: ClientConnection

    async def _live(self, token: str, cursor: str, begin: Callable[[Frame], None]) -> Ended:
        self.end_in(self._times.open)
        try:
            async with connect(
                self._url.replace("http", "ws", 1) + "/ws",
                subprotocols=[Subprotocol("jsonrpc-2.0")],
                compression=None,
                max_size=None,
                open_timeout=None,
                close_timeout=CLOSE_SECONDS,
                ping_interval=self._times.silence,
                ping_timeout=self._times.silence,
            ) as self._socket:
                self.opened = True
                answer = await self._greet(token, cursor)
                if "error" in answer:
                    return refused(RpcError(answer["error"]))
                self._life.reschedule(None)
                begin(answer["result"])
                while True:
                    self._receive(msgspec.json.decode(await self._socket.recv()))
        except ConnectionClosed as closed:
            frame = closed.rcvd
            return Ended(code=frame.code, reason=frame.reason) if frame else Ended(code=LOST)
        except (OSError, InvalidHandshake) as error:
            return Ended(code=LOST, reason=str(error))

    async def _greet(self, token: str, cursor: str) -> Frame:
        params = {"token": token} | ({"last_event_id": cursor} if cursor else {})
        await self.send({"jsonrpc": "2.0", "id": "connect", "method": "session.connect", "params": params})
        while (frame := msgspec.json.decode(await self._socket.recv())).get("id") != "connect":
            self._receive(frame)
        answer: Frame = frame
        return answer

    async def send(self, request: Frame) -> None:
        """See `Link`."""
        with contextlib.suppress(ConnectionClosed):  # it is sent again in the next session
            await self._socket.send(msgspec.json.encode(request), text=True)

    async def check(self) -> None:
        """See `Link`."""
        try:
            async with asyncio.timeout(self._times.open):
                await (await self._socket.ping())
        except (TimeoutError, ConnectionClosed):
            self.end_in(0)


class _OverError(Exception):
    """The link is over."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended.reason)
        self.ended = ended


class PollLink(Link):
    """Calls by POST /rpc, events from GET /events.

    Args:
        url, times, receive: as of `Link`.
        seconds: how long, before WebSocket is tried again.
    """

    transport = "http"
    _http: httpx.AsyncClient

    def __init__(self, url: str, times: Times, receive: Callable[[Frame], None], seconds: float) -> None:
        super().__init__(url, times, receive)
        self._seconds = seconds

    async def _live(self, token: str, cursor: str, begin: Callable[[Frame], None]) -> Ended:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        timeout = httpx.Timeout(self._times.open, read=self._times.wait + self._times.open)
        try:
            async with httpx.AsyncClient(base_url=self._url, headers=headers, timeout=timeout) as self._http:
                page = await self._poll(cursor, 0)
                self.opened = True
                cursor = page.get("last_event_id", "")
                begin(
                    {"user_id": subject(token), "last_event_id": cursor, "recovered": page.get("recovered")}
                )
                return await self._follow(page, cursor)
        except _OverError as over:
            return over.ended

    async def _follow(self, page: Frame, cursor: str) -> Ended:
        until = time.monotonic() + self._seconds
        while True:
            for event in page.get("events", ()):
                self._receive(event)
            cursor = page.get("last_event_id") or cursor
            if time.monotonic() >= until:
                return Ended(code=LOST, reason="WebSocket is tried again", pause=0.0)
            page = await self._poll(cursor, self._times.wait)
            if not page.get("recovered"):
                return Ended(code=LOST)  # the next session begins with that, and says so

    async def _poll(self, cursor: str, wait: float) -> Frame:
        params = {"wait": f"{wait:g}"} | ({"after": cursor} if cursor else {})
        response = await self._fetch("GET", "/events", params=params)
        page = _object_in(response) if response.is_success else {}
        if not page:
            pause = _retry_after(response) or None
            raise _OverError(Ended(code=LOST, reason=f"HTTP {response.status_code}", pause=pause))
        return page

    async def send(self, request: Frame) -> None:
        """See `Link`."""
        try:
            response = await self._fetch("POST", "/rpc", content=msgspec.json.encode(request))
        except _OverError:
            self.end_in(0)  # the next poll says how
            return
        answer = _object_in(response)
        understood = "result" in answer or "error" in answer
        self._receive({**(answer if understood else _failed(response)), "id": request["id"]})

    async def check(self) -> None:
        """Nothing: a poll that gets no answer ends by itself."""

    async def _fetch(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **request)
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: the client is closed
            raise _OverError(Ended(code=LOST, reason=str(error) or "No connection")) from None
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise _OverError(Ended(code=NOT_AUTHENTICATED, reason="HTTP 401"))
        if response.status_code in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT):
            raise _OverError(Ended(code=LOST, reason=f"HTTP {response.status_code}"))
        return response


_STATUSES: Mapping[int, int] = {413: REFUSED, 429: THROTTLED, 503: UNAVAILABLE}


def _failed(response: httpx.Response) -> Frame:
    """The error of an answer that is no JSON-RPC."""
    status = response.status_code
    code = _STATUSES.get(status, INTERNAL)
    data = {
        "reason": f"HTTP_{status}",
        "retryable": code in (THROTTLED, UNAVAILABLE),
        "retry_after_ms": math.ceil(_retry_after(response) * 1000),
    }
    return {"jsonrpc": "2.0", "error": {"code": code, "message": f"HTTP {status}", "data": data}}


def _object_in(response: httpx.Response) -> Frame:
    try:
        body: Frame = msgspec.json.decode(response.content, type=dict)
    except ValueError:
        return {}
    return body


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
