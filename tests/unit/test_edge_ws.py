"""The WebSocket driver over real sockets, with a hub that counts and times that are short."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from edge import table
from edge.admission import Admission
from edge.backlog import Pushed
from edge.calls import Calls
from edge.hub import Follower, Hub, Start
from edge.local import local_methods
from edge.sessions import Sessions
from edge.settings import Settings
from edge.table import Method
from edge.wiring import doorkeeper
from edge.ws import Gateway
from mesh import tokens
from mesh.errors import MessengerError, Unavailable
from mesh.streams import EventId

SECRET = "s" * 32


class FreeOfCharge:
    """An admission that takes no tokens."""

    def shed(self, _method: Method) -> None:
        """Lets everything in."""

    async def pay(self, _user_id: str, _method: str, _cost: float) -> None:
        """Takes none."""


class CountingHub:
    """Knows who follows; joining takes a turn of the loop, as it does with a real one."""

    def __init__(self) -> None:
        self.here: set[Follower] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: MessengerError | None = None
        self.waits = asyncio.Event()

    async def join(self, follower: Follower, _cursor: EventId | None) -> Start:
        """Lets in, when the gate is open and nothing fails."""
        if self.fails is not None:
            raise self.fails
        if not self.gate.is_set():
            self.waits.set()
        await self.gate.wait()
        await asyncio.sleep(0)
        self.here.add(follower)
        return Start(last_event_id="1-0-1", recovered=True, events=())

    async def leave(self, follower: Follower) -> None:
        """Lets out."""
        self.here.discard(follower)


@pytest.fixture
def hub() -> CountingHub:
    """Nobody is here."""
    return CountingHub()


@pytest.fixture
async def gateway(hub: CountingHub) -> AsyncIterator[Gateway]:
    """A gateway whose sockets must authenticate within a fifth of a second."""
    settings = Settings(
        aggregator_address="unused",
        dbapi_address="unused",
        redis_urls=("redis://unused",),
        jwt_secret=SECRET,
        connect_seconds=0.2,
    )
    calls = Calls(
        table.methods([table.SESSION]),
        channels={},
        local=local_methods({}),
        fallbacks={},
        admission=cast(Admission, FreeOfCharge()),
    )
    gateway = Gateway(
        settings,
        doorkeeper=doorkeeper(settings),
        sessions=Sessions(settings.user_sessions),
        calls=calls,
        hub=cast(Hub, hub),
    )
    await gateway.start()
    yield gateway
    await gateway.drain()


@pytest.fixture
async def socket(gateway: Gateway) -> AsyncIterator[ClientConnection]:
    """A client's socket."""
    assert gateway._server is not None
    port = next(iter(gateway._server.sockets)).getsockname()[1]
    async with connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as socket:
        yield socket


def session_connect(request_id: int = 1) -> dict[str, Any]:
    """A good session.connect."""
    token = tokens.issue("ann", secret=SECRET, now=datetime.now(UTC), ttl=timedelta(hours=1))
    return {"jsonrpc": "2.0", "id": request_id, "method": "session.connect", "params": {"token": token}}


async def closed(socket: ClientConnection) -> tuple[int | None, list[Any]]:
    """Reads to the end: the close code, and the frames before it."""
    frames: list[Any] = []
    async with asyncio.timeout(5):
        try:
            while True:
                frames.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            return socket.close_code, frames


async def test_nobody_authenticates(socket: ClientConnection, hub: CountingHub) -> None:
    """A socket without a session is closed with 4501 when its time is up, also when it talks."""
    await socket.send('{"jsonrpc":"2.0","id":1,"method":"session.ping"}')
    assert "result" in json.loads(await socket.recv())
    code, _ = await closed(socket)
    assert code == 4501
    assert not hub.here


async def test_a_session_lives_on(socket: ClientConnection, hub: CountingHub) -> None:
    """A socket with a session outlives that time, and follows its user's events until it ends."""
    await socket.send(json.dumps(session_connect()))
    assert "result" in json.loads(await socket.recv())
    assert len(hub.here) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(socket.recv(), 0.4)
    await socket.close()
    async with asyncio.timeout(5):
        while hub.here:  # noqa: ASYNC110  # the server notices a moment later
            await asyncio.sleep(0.01)


async def test_an_upgrade_while_the_events_are_not_to_be_had(gateway: Gateway, hub: CountingHub) -> None:
    """A good token in the upgrade whose session cannot begin now closes the socket with 4002: come back."""
    hub.fails = Unavailable("The mailbox does not answer.")
    token = tokens.issue("ann", secret=SECRET, now=datetime.now(UTC), ttl=timedelta(hours=1))
    assert gateway._server is not None
    port = next(iter(gateway._server.sockets)).getsockname()[1]
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers, proxy=None) as socket:
        assert await closed(socket) == (4002, [])


@pytest.mark.parametrize("as_batch", [True, False])
async def test_many_connects_at_once(socket: ClientConnection, hub: CountingHub, as_batch: bool) -> None:
    """However many session.connect a socket makes at once, it follows once, and nothing is left behind."""
    await socket.send(json.dumps(session_connect()))
    await socket.recv()
    calls = [session_connect(number) for number in range(20)]
    for frame in [calls] if as_batch else calls:
        await socket.send(json.dumps(frame))
    for _ in range(1 if as_batch else len(calls)):
        await socket.recv()
    assert len(hub.here) == 1
    await socket.close()
    async with asyncio.timeout(5):
        while hub.here:  # noqa: ASYNC110  # the server notices a moment later
            await asyncio.sleep(0.01)


class CountingTransport:
    """A socket's transport that counts writes."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.writes = 0
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Counts, and writes."""
        self.writes += 1
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_events_that_come_together_are_written_together(
    socket: ClientConnection, gateway: Gateway, hub: CountingHub
) -> None:
    """What is told at once costs a device one write, and is one frame an event that tells something."""
    await socket.send(json.dumps(session_connect()))
    assert "result" in json.loads(await socket.recv())
    [held] = gateway._sockets
    counting = CountingTransport(held._connection.transport)
    held._connection.transport = cast(asyncio.Transport, counting)
    [follower] = hub.here
    follower.catch_up([Pushed(place=None, event_id="", frame=text) for text in (b"1", b"", b"2", b"3")])
    assert [await socket.recv() for _ in range(3)] == ["1", "2", "3"]
    assert counting.writes == 1


async def test_an_edge_that_drains(socket: ClientConnection, gateway: Gateway) -> None:
    """Each client is told when to come back, and is closed with 4000."""
    await socket.send(json.dumps(session_connect()))
    await socket.recv()
    reading = asyncio.create_task(closed(socket))
    await gateway.drain()
    code, frames = await reading
    assert code == 4000
    assert [frame["method"] for frame in frames] == ["session.reconnect"]
    assert frames[0]["params"]["reason"] == "draining"
    assert frames[0]["params"]["after_ms"] >= 0


async def test_slots_are_spread_and_clients_served_until_then(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients of a leaving edge are told different times, and one that calls before its own is answered."""
    monkeypatch.setattr("edge.ws.RECONNECTS_PER_SECOND", 10)
    assert gateway._server is not None
    port = next(iter(gateway._server.sockets)).getsockname()[1]
    async with AsyncExitStack() as stack:
        address = f"ws://127.0.0.1:{port}/ws"
        sockets = [await stack.enter_async_context(connect(address, proxy=None)) for _ in range(10)]
        for socket in sockets:
            await socket.send(json.dumps(session_connect()))
            await socket.recv()
        draining = asyncio.create_task(gateway.drain())
        told = [json.loads(await socket.recv())["params"]["after_ms"] for socket in sockets]
        assert len(set(told)) > 5
        last = sockets[told.index(max(told))]
        await last.send(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "session.ping"}))
        code, frames = await closed(last)
        assert (code, [frame["id"] for frame in frames]) == (4000, [2])
        assert all([await closed(socket) == (4000, []) for socket in sockets if socket is not last])
        await draining


async def test_calls_that_run_are_answered_before_the_close(
    socket: ClientConnection, gateway: Gateway, hub: CountingHub
) -> None:
    """SIGTERM does not cost a client the answer to what it has asked already."""
    await socket.send(json.dumps(session_connect()))
    await socket.recv()
    hub.gate.clear()
    await socket.send(json.dumps(session_connect(2)))
    async with asyncio.timeout(5):
        await hub.waits.wait()
    draining = asyncio.create_task(gateway.drain())
    assert json.loads(await socket.recv())["method"] == "session.reconnect"
    hub.gate.set()
    code, frames = await closed(socket)
    assert (code, [frame["id"] for frame in frames]) == (4000, [2])
    await draining
