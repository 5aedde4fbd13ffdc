"""The paths of HTTP and their statuses: calls, the fallback's notifications, documents and probes."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.contract.conftest import Connect, Scene, Target
from tests.contract.device import PATIENCE, HttpDevice
from tests.contract.meta_schema import violations
from tests.contract.shapes import BOOL, ERROR, SOME_TEXT, Shape, assert_shape, list_of

PING = '{"jsonrpc":"2.0","method":"session.ping","id":1}'
EVENTS = Shape(
    must={
        "events": list_of(Shape(must={"method": SOME_TEXT, "params": Shape(must={"event_id": SOME_TEXT})})),
        "last_event_id": SOME_TEXT,
        "recovered": BOOL,
    },
)

KEPT = (
    "message.new", "message.updated", "message.deleted", "chat.updated", "receipt.read", "receipt.delivered",
)  # fmt: skip
EPHEMERAL = ("typing", "presence", "session.expiring", "session.reconnect")


@pytest.fixture
def transport() -> str:
    """HTTP alone."""
    return "http"


async def get(device: HttpDevice, path: str, **params: Any) -> Any:
    """The JSON of a path that must be there."""
    response = await device.http.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_call_is_answered_with_200(by_http: HttpDevice) -> None:
    """A result and an error are both 200, as JSON; a notification is 204 without a body."""
    for text, status in (
        (PING, 200),
        ('{"jsonrpc":"2.0","method":"foobar","id":1}', 200),
        ("not JSON", 200),
        ('{"jsonrpc":"2.0","method":"session.ping"}', 204),
    ):
        answer = await by_http.exchange(text)
        assert by_http.response is not None
        assert by_http.response.status_code == status, text
        assert (answer is None) == (status == 204)
        if answer:
            assert by_http.response.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("size", [65_537, 1_000_000, 6_000_000])
async def test_a_body_that_is_too_large(by_http: HttpDevice, size: int) -> None:
    """A body of 64 KiB is answered; a larger one is 413."""
    assert "result" in await by_http.exchange(PING.ljust(65_536))
    response = await by_http.http.post("/rpc", content=PING.ljust(size))
    assert response.status_code == 413


SEARCH = {"jsonrpc": "2.0", "method": "messages.search", "id": 1, "params": {"query": "x", "limit": 1}}


async def throttle(device: HttpDevice) -> list[Any]:
    """Calls until some calls are throttled; their errors."""
    for _ in range(20):
        answers = await device.exchange(json.dumps([SEARCH] * 50))
        errors = [answer["error"] for answer in answers if "error" in answer]
        if throttled := [error for error in errors if error["data"]["reason"] == "THROTTLED"]:
            return throttled
    raise AssertionError("1,000 calls were not too many")


async def test_throttling(by_http: HttpDevice) -> None:
    """Too many calls are -32008 and say when to come back; a single one is 429 with Retry-After."""
    for error in await throttle(by_http):
        assert error["code"] == -32008
        assert_shape(error, ERROR, "error")
        assert error["data"]["retryable"]
        assert error["data"]["retry_after_ms"] > 0
    for _ in range(20):
        await throttle(by_http)
        answer = await by_http.exchange(json.dumps(SEARCH))
        assert by_http.response is not None
        if by_http.response.status_code == 429:
            break
    assert answer["error"]["code"] == -32008
    assert by_http.response is not None
    assert int(by_http.response.headers["Retry-After"]) >= 1
    await by_http.call("chats.list")  # another method has a bucket of its own


async def test_retry_after_is_true(by_http: HttpDevice) -> None:
    """After retry_after_ms the same call is not throttled any more."""
    pauses = [error["data"]["retry_after_ms"] for error in await throttle(by_http)]
    await asyncio.sleep(max(pauses) / 1000)
    assert "result" in await by_http.exchange(json.dumps(SEARCH))


async def test_events_wait(scene: Scene) -> None:
    """/events answers as soon as there is something, and after `wait` with nothing."""
    bob = scene.bob
    assert isinstance(bob, HttpDevice)
    before = bob.cursor
    started = time.monotonic()
    page = await get(bob, "/events", after=before, wait=0)
    assert_shape(page, EVENTS, "events")
    assert page["events"] == []
    assert page["recovered"]
    waiting = asyncio.create_task(get(bob, "/events", after=page["last_event_id"], wait=25))
    sent = await scene.says(scene.alice, "Hello")
    page = await waiting
    assert time.monotonic() - started < PATIENCE
    assert_shape(page, EVENTS, "events")
    assert page["events"][0]["params"]["message"]["message_id"] == sent["message_id"]
    again = await get(bob, "/events", after=before, wait=25)
    assert again["events"][: len(page["events"])] == page["events"]
    started = time.monotonic()
    assert (await get(bob, "/events", wait=0.3))["events"] == []
    assert 0.3 <= time.monotonic() - started < PATIENCE


async def test_events_come_once_along_the_cursor(scene: Scene) -> None:
    """Following last_event_id from page to page brings every event once."""
    bob = scene.bob
    assert isinstance(bob, HttpDevice)
    cursor = bob.cursor
    got: list[str] = []
    texts = [str(number) for number in range(10)]
    sending = asyncio.create_task(scene.tells(scene.alice, *texts))
    while len(got) < len(texts):
        page = await get(bob, "/events", after=cursor, wait=10)
        cursor = page["last_event_id"]
        got += [one["params"]["message"]["text"] for one in page["events"] if one["method"] == "message.new"]
    await sending
    assert sorted(got) == texts


@pytest.mark.parametrize(
    "query", ["wait=26", "wait=25.001", "wait=-1", "wait=x", "wait=nan", "after=x", "after=1-2"]
)
async def test_events_refuses_bad_queries(by_http: HttpDevice, query: str) -> None:
    """A wait outside 0..25 and a cursor that the server never gave out are refused, not waited for."""
    response = await by_http.http.get(f"/events?{query}")
    assert response.status_code == 400
    assert_shape(response.json()["error"], ERROR, "error")


async def lines(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """The id and the data of every event of a stream (HTML, 9.2)."""
    event_id = ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "data":
            yield event_id, json.loads(value)


async def test_the_stream(scene: Scene) -> None:
    """/events/stream pushes each notification under its id; with Last-Event-ID it goes on behind that."""
    bob = scene.bob
    assert isinstance(bob, HttpDevice)
    async with bob.http.stream("GET", "/events/stream") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        sent = [await scene.says(scene.alice, text) for text in ("one", "two", "three")]
        seen = await take_messages(response, 3)
    assert sorted(note["params"]["message"]["message_id"] for _, note in seen) == [
        message["message_id"] for message in sent
    ]
    assert all(event_id == note["params"]["event_id"] for event_id, note in seen)
    headers = {"Last-Event-ID": seen[0][0]}
    async with bob.http.stream("GET", "/events/stream", headers=headers) as response:
        assert await take_messages(response, 2) == seen[1:]


async def take_messages(response: httpx.Response, count: int) -> list[tuple[str, Any]]:
    """The next new messages of a stream, with their ids."""
    taken: list[tuple[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        async for event_id, note in lines(response):
            if note["method"] == "message.new":
                taken.append((event_id, note))
            if len(taken) == count:
                break
    return taken


async def test_a_cursor_is_good_on_every_transport(
    connect_by: Connect, scene: Scene, name: Callable[[str], str]
) -> None:
    """What one transport gave as last event is where another goes on."""
    bob = scene.bob
    [first] = await scene.tells(scene.alice, "one")
    cursor = next(one for one in bob.events if one["method"] == "message.new")["params"]["event_id"]
    sent = [await scene.says(scene.alice, text) for text in ("two", "three")]
    for transport in ("ws", "http"):
        device = await connect_by(transport, bob.user_id, last_event_id=cursor)
        got = {(await device.next("message.new"))["message"]["message_id"] for _ in sent}
        assert got == {message["message_id"] for message in sent}
        assert first["message_id"] not in got


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes(target: Target, path: str) -> None:
    """The probes answer 200 without a token."""
    async with httpx.AsyncClient(base_url=target.url, trust_env=False) as http:
        assert (await http.get(path)).status_code == 200


async def test_the_web_client(target: Target) -> None:
    """/ is a page, with a policy that lets nobody else's scripts in."""
    async with httpx.AsyncClient(base_url=target.url, trust_env=False) as http:
        response = await http.get("/")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]


async def test_the_openrpc_document(by_http: HttpDevice, target: Target) -> None:
    """/openrpc.json is what rpc.discover answers, needs no token, and is valid by OpenRPC's meta-schema."""
    async with httpx.AsyncClient(base_url=target.url, trust_env=False) as http:
        document = (await http.get("/openrpc.json")).json()
    assert document == await by_http.call("rpc.discover")
    assert violations(document) == []
    kept = {one["name"]: one["x-kept"] for one in document["x-notifications"]}
    assert kept == dict.fromkeys(KEPT, True) | dict.fromkeys(EPHEMERAL, False)
    codes = {error["code"] for error in document["components"]["errors"].values()}
    contract = {-32700, *range(-32603, -32599), *range(-32010, -32003), -32014, -32016}
    assert contract <= codes


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/rpc"), ("PUT", "/rpc"), ("GET", "/nothing-here"), ("POST", "/events")],
)
async def test_what_is_not_there(by_http: HttpDevice, method: str, path: str) -> None:
    """Paths and methods outside the contract are refused with HTTP's own statuses."""
    assert (await by_http.http.request(method, path)).status_code in {404, 405}


@pytest.mark.parametrize(
    "path", ["/../settings.py", "/%2e%2e/settings.py", "/..%2fsettings.py", "//etc/passwd"]
)
async def test_files_outside_the_web_client(by_http: HttpDevice, path: str) -> None:
    """The web client's folder is all that / shows of the disk."""
    request = by_http.http.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await by_http.http.send(request)).status_code in {400, 404}


async def test_nothing_of_the_inside_shows(by_http: HttpDevice) -> None:
    """Errors of all kinds name no host, port, file, library or service of the inside."""
    bodies: list[Any] = ["not JSON", "[]", '{"jsonrpc":"2.0","method":"foobar","id":1}']
    samples: tuple[Any, ...] = (None, True, 1e308, -1, "\0", "$ne", {"$gt": ""}, [{}], "'" * 99)
    for method, value in itertools.product(("chats.get", "chats.open", "messages.send"), samples):
        for param in ("chat_id", "peer_id", "text", "up_to"):
            params = {param: value}
            bodies.append(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}))
    for body in bodies:
        text = json.dumps(await by_http.exchange(body)).lower()
        for word in (
            "traceback",
            "mongo",
            "grpc",
            "redis",
            "amqp",
            "127.0.0.1",
            ".py",
            "aggregator",
            "dbapi",
        ):
            assert word not in text, (body, text)
