"""An edge on real listeners, with events of the test's own and nothing behind it; and rude clients."""

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode

from edge import table
from edge.backlog import Pushed
from edge.calls import Calls
from edge.http import HttpApi
from edge.hub import Follower, Start
from edge.listener import HttpServer
from edge.local import local_methods
from edge.openrpc import document
from edge.sessions import Sessions
from edge.settings import Settings
from edge.table import Method
from edge.wiring import doorkeeper
from edge.ws import Gateway
from mesh import tokens
from mesh.stack.ports import reserve_block
from mesh.streams import EventId

SECRET = "s" * 32
PATIENCE = 20.0
"""Seconds that anything may take here; only failures wait so long."""


class FreeOfCharge:
    """An admission that takes no tokens."""

    def shed(self, _method: Method) -> None:
        """Lets everything in."""

    async def pay(self, _user_id: str, _method: str, _cost: float) -> None:
        """Takes none."""


class HandHub:
    """A hub whose events the test pushes."""

    def __init__(self) -> None:
        self.followers: dict[str, set[Follower]] = {}
        self._numbers = itertools.count(1)

    async def join(self, follower: Follower, _cursor: EventId | None) -> Start:
        """Begins with nothing."""
        self.followers.setdefault(follower.user_id, set()).add(follower)
        return Start(last_event_id="1-0-0", recovered=True, events=())

    async def leave(self, follower: Follower) -> None:
        """Ends."""
        self.followers.get(follower.user_id, set()).discard(follower)

    def push(self, user_id: str, size: int) -> None:
        """Pushes an ephemeral event of about that many bytes to each device of a user."""
        body = {"jsonrpc": "2.0", "method": "typing", "params": {"n": next(self._numbers), "x": "x" * size}}
        event = Pushed(place=None, frame=json.dumps(body).encode(), event_id="")
        for follower in tuple(self.followers.get(user_id, ())):
            follower.push([event])


class Edge:
    """The running edge.

    Attributes:
        hub: pushes to its clients.
        gateway: the WebSocket side.
        ws, http: ports.
    """

    def __init__(self, gateway: Gateway, hub: HandHub, ws: int, http: int) -> None:
        self.gateway, self.hub, self.ws, self.http = gateway, hub, ws, http

    def socket(self, address: str = "", **options: Any) -> connect:
        """A client's WebSocket; behind a proxy that says so it comes from an address."""
        headers = {"X-Forwarded-For": address} if address else {}
        url = f"ws://127.0.0.1:{self.ws}/ws"
        return connect(url, proxy=None, additional_headers=headers, compression=None, **options)

    def client(self, address: str = "", token: str = "") -> httpx.AsyncClient:
        """A client of HTTP."""
        headers = {"X-Forwarded-For": address} if address else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.http}"
        return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=PATIENCE)


@contextlib.asynccontextmanager
async def running_edge(**settings: Any) -> AsyncIterator[Edge]:
    """An edge with these settings."""
    block = reserve_block()
    with block.guard:
        told = Settings(
            ws_listen="127.0.0.1:0",
            http_listen=f"127.0.0.1:{block.base}",
            jwt_secret=SECRET,
            aggregator_address="unix:/nowhere",
            dbapi_address="unix:/nowhere",
            redis_urls=("redis://nowhere",),
            **settings,
        )
        async with _listening(told, block.base) as edge:
            yield edge


@contextlib.asynccontextmanager
async def _listening(settings: Settings, port: int) -> AsyncIterator[Edge]:
    hub: Any = HandHub()
    free: Any = FreeOfCharge()
    methods = table.methods([table.SESSION])
    openrpc = document(methods, url=settings.public_url, described={}, limits={})
    calls = Calls(methods, channels={}, local=local_methods(openrpc), fallbacks={}, admission=free)
    shared: dict[str, Any] = {
        "doorkeeper": doorkeeper(settings),
        "sessions": Sessions(settings.user_sessions),
        "calls": calls,
        "hub": hub,
    }
    gateway = Gateway(settings, **shared)
    outbound = settings.outbound_bytes
    api = HttpApi(**shared, admission=free, outbound_bytes=outbound, openrpc=openrpc, failing=_nothing)
    server = HttpServer(api.app(), settings.http_listen, grace=1, patience=settings.patience_seconds)
    serving = asyncio.create_task(server.serve())
    await gateway.start()
    await until(lambda: server.started)
    assert gateway._server is not None
    try:
        yield Edge(gateway, hub, gateway._server.sockets[0].getsockname()[1], port)
    finally:
        await gateway.drain()
        await api.drain()
        await server.drain()
        await serving


async def _nothing() -> list[str]:
    return []


async def until(condition: Any) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


def token(user: str, seconds: float = 3600) -> str:
    """A good token, or with less than no seconds one that is over."""
    return tokens.issue(user, secret=SECRET, now=datetime.now(UTC), ttl=timedelta(seconds=seconds))


def forged(user: str) -> str:
    """A token that somebody else has signed."""
    return tokens.issue(user, secret="x" * 32, now=datetime.now(UTC), ttl=timedelta(hours=1))


async def ask(socket: ClientConnection, method: str, **params: Any) -> Any:
    """The next answer, past notifications."""
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    while "id" not in (message := json.loads(await socket.recv())):
        pass
    return message


class Rude:
    """A client that writes bytes as it likes, and reads only when it is told to.

    Args:
        reader, writer: its connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def meets(cls, port: int, *, room: int = 0) -> Self:
        """Connects; `room` is the size of its buffer for what it does not read."""
        loop, made = asyncio.get_running_loop(), _socket(room)
        await loop.sock_connect(made, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=made, limit=room or 2**16))

    async def opens(self) -> None:
        """Opens a WebSocket."""
        self.writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await self.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")

    def says(self, method: str, **params: Any) -> None:
        """Sends a call in a whole frame."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.writer.write(frame(json.dumps(body).encode()))

    async def signs_in(self, user: str) -> None:
        """Becomes a user's session."""
        await self.opens()
        self.says("session.connect", token=token(user))
        assert b"session_id" in (await self.hears())[1]

    async def hears(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        opcode, size = await self.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2))
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8))
        return opcode & 15, await self.reader.readexactly(size)

    async def is_closed_with(self) -> int:
        """The close code, past everything else; 0 where the connection ends without."""
        async with asyncio.timeout(PATIENCE):
            try:
                while (heard := await self.hears())[0] != Opcode.CLOSE:
                    pass
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0
        return int.from_bytes(heard[1][:2])

    async def ends(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read(-1)
        return b""

    async def dribbles(self, data: bytes, pause: float) -> None:
        """Sends byte by byte until it is cut off."""
        with contextlib.suppress(ConnectionError):
            for byte in data:
                self.writer.write(bytes([byte]))
                await self.writer.drain()
                await asyncio.sleep(pause)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


def _socket(room: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    if room:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    return made


def frame(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    """A client's frame."""
    return Frame(opcode, payload, fin).serialize(mask=True)
