"""Statuses and waits of the HTTP driver that a healthy system cannot be brought to, on parts in hand."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import pytest
import structlog

from edge import table
from edge.admission import Admission
from edge.calls import Calls
from edge.faults import UNEXPECTED
from edge.http import HttpApi
from edge.hub import Follower, Hub, Start
from edge.inbox import Inbox
from edge.local import local_methods
from edge.sessions import Sessions
from edge.settings import Settings
from edge.table import Method
from edge.wiring import doorkeeper
from mesh import tokens
from mesh.errors import ResourceExhausted
from mesh.streams import EventId

SECRET = "s" * 32
PING = {"jsonrpc": "2.0", "method": "session.ping", "id": 1}


class HandAdmission:
    """An admission that refuses what the test puts there."""

    def __init__(self) -> None:
        self.shedding: ResourceExhausted | None = None
        self.throttling: ResourceExhausted | None = None

    def shed(self, _method: Method) -> ResourceExhausted | None:
        return self.shedding

    async def pay(self, _user_id: str, _name: str, _cost: float) -> None:
        if self.throttling is not None:
            raise self.throttling


class HandHub:
    """A hub whose users have no events; a cursor may be too old for it."""

    def __init__(self) -> None:
        self.recovers = True
        self.broken = False

    async def join(self, _follower: Follower, _cursor: EventId | None) -> Start:
        if self.broken:
            raise RuntimeError("what somebody wrote")
        return Start(last_event_id="1-0-1", recovered=self.recovers, events=())

    async def leave(self, _follower: Follower) -> None:
        """Nothing to undo."""


class World:
    """The paths with everything around them."""

    def __init__(self) -> None:
        settings = Settings(
            aggregator_address="unused",
            dbapi_address="unused",
            redis_urls=("redis://unused",),
            jwt_secret=SECRET,
        )
        self.admission, self.hub = HandAdmission(), HandHub()
        admission = cast(Admission, self.admission)
        calls = Calls(
            table.methods([table.SESSION]),
            channels={},
            local=local_methods({}),
            fallbacks={},
            admission=admission,
        )

        async def failing() -> list[str]:
            return []

        self.api = HttpApi(
            doorkeeper=doorkeeper(settings),
            sessions=Sessions(settings.user_sessions),
            admission=admission,
            calls=calls,
            hub=cast(Hub, self.hub),
            outbound_bytes=settings.outbound_bytes,
            openrpc={},
            failing=failing,
        )
        token = tokens.issue("ann", secret=SECRET, now=datetime.now(UTC), ttl=timedelta(hours=1))
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.api.app()),
            base_url="http://edge",
            headers={"Authorization": f"Bearer {token}"},
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A fresh one."""
    world = World()
    async with world.http:
        yield world


async def test_shedding_is_503(world: World) -> None:
    """A call that an overloaded edge sheds is 503 and says when to come back; a batch is 200, with errors."""
    world.admission.shedding = ResourceExhausted("Later.", reason="SHED", retry_after_ms=1500)
    alone = await world.http.post("/rpc", json=PING)
    assert (alone.status_code, alone.headers["Retry-After"]) == (503, "2")
    assert alone.json()["error"]["code"] == -32008
    batch = await world.http.post("/rpc", json=[PING])
    assert batch.status_code == 200
    assert [one["error"]["data"]["retry_after_ms"] for one in batch.json()] == [1500]


@pytest.mark.parametrize("path", ["/events", "/rpc"])
async def test_what_nobody_expected_is_500(world: World, path: str) -> None:
    """A bug is answered with a fixed text and with the trace_id that its line in the log has."""
    world.hub.broken = True
    connect = {"jsonrpc": "2.0", "method": "session.connect", "params": {}, "id": 1}
    with structlog.testing.capture_logs() as logs:
        answer = await (world.http.get(path) if path == "/events" else world.http.post(path, json=connect))
    assert answer.status_code == (500 if path == "/events" else 200)
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == (-32603, UNEXPECTED)
    assert [line["trace_id"] for line in logs] == [error["data"]["trace_id"]]


async def test_throttling_is_429(world: World) -> None:
    """A call over its user's limit is 429 and says when to come back; so is a request for events."""
    world.admission.throttling = ResourceExhausted("Slower.", reason="THROTTLED", retry_after_ms=1)
    for response in (
        await world.http.post("/rpc", json=PING),
        await world.http.get("/events?wait=0"),
        await world.http.get("/events/stream"),
    ):
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
        assert response.json()["error"]["code"] == -32008


@pytest.mark.parametrize(("query", "waits"), [("", 10), ("?wait=0", 0), ("?wait=25", 25), ("?wait=2.5", 2.5)])
async def test_events_wait_as_long_as_they_are_told(
    world: World, monkeypatch: pytest.MonkeyPatch, query: str, waits: float
) -> None:
    """Without a word 10 s, else what the request says, from 0 to 25; then the answer is an empty list."""
    waited: list[float] = []

    async def wait(_inbox: Inbox, seconds: float, _going_away: Any) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Inbox, "wait", wait)
    response = await world.http.get(f"/events{query}")
    assert response.json() == {"events": [], "last_event_id": "1-0-1", "recovered": True}
    assert waited == [waits]


async def test_a_gap_that_nothing_fills_is_said(world: World) -> None:
    """Where the events since the cursor are not to be had, `recovered` is false in both answers."""
    world.hub.recovers = False
    page = (await world.http.get("/events?after=1-0-0&wait=0")).json()
    assert page["recovered"] is False
    connect = {"jsonrpc": "2.0", "method": "session.connect", "params": {"last_event_id": "1-0-0"}, "id": 1}
    session = (await world.http.post("/rpc", json=connect)).json()["result"]
    assert session["recovered"] is False
    assert session["last_event_id"] == page["last_event_id"]
