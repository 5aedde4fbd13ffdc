"""The door of the WebSocket: pages of other origins, and tokens that run out. A real listener."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge import table
from edge.calls import Calls
from edge.hub import Follower, Start
from edge.local import local_methods
from edge.origins import Origins
from edge.sessions import Sessions
from edge.settings import Settings
from edge.table import Method
from edge.wiring import doorkeeper
from edge.ws import Gateway
from mesh import tokens
from mesh.streams import EventId

SECRET = "s" * 32


class FreeOfCharge:
    """An admission that takes no tokens."""

    def shed(self, _method: Method) -> None:
        """Lets everything in."""

    async def pay(self, _user_id: str, _method: str, _cost: float) -> None:
        """Takes none."""


class QuietHub:
    """A hub whose users have no events."""

    async def join(self, follower: Follower, cursor: EventId | None) -> Start:
        """Begins nowhere."""
        return Start(last_event_id="1-0-0", recovered=True, events=())

    async def leave(self, follower: Follower) -> None:
        """Nothing to undo."""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """The address of an edge's WebSocket that tells a second before a token ends."""
    settings = Settings(
        ws_listen="127.0.0.1:0",
        public_url="https://messenger.example",
        allowed_origins=("https://shop.example",),
        expiring_seconds=1.0,
        jwt_secret=SECRET,
        aggregator_address="unix:/nowhere",
        dbapi_address="unix:/nowhere",
        redis_urls=("redis://nowhere",),
    )
    free: Any = FreeOfCharge()
    hub: Any = QuietHub()
    methods = table.methods([table.SESSION])
    calls = Calls(methods, channels={}, local=local_methods({}), fallbacks={}, admission=free)
    gateway = Gateway(
        settings,
        doorkeeper=doorkeeper(settings),
        sessions=Sessions(settings.user_sessions),
        calls=calls,
        hub=hub,
    )
    await gateway.start()
    assert gateway._server is not None
    yield f"ws://127.0.0.1:{gateway._server.sockets[0].getsockname()[1]}/ws"
    await gateway.drain()


def token(seconds: float) -> str:
    """A token of alice's that ends in so many seconds, on a full one."""
    now = datetime.now(UTC).replace(microsecond=0)
    return tokens.issue("alice", secret=SECRET, now=now, ttl=timedelta(seconds=seconds))


async def call(socket: ClientConnection, method: str, **params: Any) -> Any:
    """The next answer, past notifications."""
    await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    while "id" not in (message := json.loads(await socket.recv())):
        pass
    return message


async def test_a_token_that_runs_out_closes_the_socket(url: str) -> None:
    """A session hears session.expiring some time before its token ends, and is closed with 4502 then."""
    async with connect(url, proxy=None) as socket:
        mine = token(3)
        ends = jwt.decode(mine, options={"verify_signature": False})["exp"]
        assert (await call(socket, "session.connect", token=mine))["result"]["user_id"] == "alice"
        assert json.loads(await socket.recv())["method"] == "session.expiring"
        assert time.time() >= ends - 1
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4502
        assert time.time() >= ends


async def test_a_younger_token_keeps_the_socket_open(url: str) -> None:
    """A session that refreshes outlives its first token, and is told of the second one's end."""
    async with connect(url, proxy=None) as socket:
        await call(socket, "session.connect", token=token(2))
        assert json.loads(await socket.recv())["method"] == "session.expiring"
        assert "result" in await call(socket, "session.refresh", token=token(4))
        assert json.loads(await socket.recv())["method"] == "session.expiring"
        assert "result" in await call(socket, "session.ping")


async def test_an_old_token_does_not_prolong_a_session(url: str) -> None:
    """A token that is over already refreshes nothing."""
    async with connect(url, proxy=None) as socket:
        await call(socket, "session.connect", token=token(60))
        assert (await call(socket, "session.refresh", token=token(-1)))["error"]["code"] == -32016
        assert "result" in await call(socket, "session.ping")


@pytest.mark.parametrize("origin", ["https://messenger.example", "https://shop.example", None, "own"])
async def test_pages_that_may_open_a_socket(url: str, origin: str | None) -> None:
    """PUBLIC_URL's pages, listed ones, the host's own, and programs that are no browsers are let in."""
    own = "http://" + url.removeprefix("ws://").removesuffix("/ws")
    async with connect(url, origin=own if origin == "own" else origin, proxy=None) as socket:  # type: ignore[arg-type]
        assert "result" in await call(socket, "session.connect", token=token(60))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://messenger.example", "https://messenger.example.evil", "null", ""],
)
async def test_pages_that_may_not(url: str, origin: str) -> None:
    """A page of any other origin is answered with 403 before there is a socket."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers={"Origin": origin}, proxy=None):
            pass
    assert refused.value.response.status_code == 403


async def test_two_origins_are_none(url: str) -> None:
    """A request that names two origins is refused, whichever they are."""
    twice = [("Origin", "https://messenger.example"), ("Origin", "https://evil.example")]
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, additional_headers=twice, proxy=None):
            pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("listed", "origin", "host", "allowed"),
    [
        ([], "https://a.example", "a.example", True),
        ([], "https://a.example:8443", "a.example", False),
        ([], "HTTPS://A.example", "a.EXAMPLE", True),
        ([], "https://", "", False),
        ([], "file://a.example", "a.example", False),
        ([], "https://[", "a.example", False),
        (["https://a.example/app/"], "https://a.example", "b.example", True),
        (["https://a.example"], "https://a.example.evil", "b.example", False),
        (["*"], "null", "b.example", True),
        ([], None, "", True),
    ],
)
def test_origins(listed: list[str], origin: str | None, host: str, allowed: bool) -> None:
    """An origin is let in when its scheme, host and port are listed, or it is the page of the host itself."""
    assert Origins(listed).allow(origin, host) is allowed
