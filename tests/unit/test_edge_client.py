"""What the reference client does by itself, against a server of the contract that the test has in hand.

What it does with the real system, tests/contract/test_client.py shows.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from edge import client as client_module
from edge.client import Client, Notification, RpcError
from edge.links import Times
from edge.rpc import subject
from edge.tracking import Backoff
from mesh import tokens

QUICK = Backoff(first=0.005, most=0.02)
TIMES = Times(open=5.0, grace=0.005)
NEVER = Backoff(first=1e6, most=1e6)

Params = dict[str, Any]
Answers = Callable[[Params], Params]


class Refusal(Exception):
    """What a method answers instead of a result."""

    def __init__(self, code: int, **data: Any) -> None:
        self.error = {"code": code, "message": "no", "data": {"reason": "R", **data}}


class Server:
    """The other end: `on[method](params)` gives the result; without one the method stays silent."""

    def __init__(self) -> None:
        self.sockets: list[ServerConnection] = []
        self.calls: list[tuple[str, Params]] = []
        self.on: dict[str, Answers] = {"session.connect": lambda _: begun()}
        self.url = ""
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Server"]:
        """The server, for as long as the block."""
        async with serve(self._serve, "127.0.0.1", 0) as listener:
            self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
            yield self

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        self._changed.set()
        try:
            async for text in socket:
                await self._answer(socket, json.loads(text))
        except ConnectionClosed:
            pass

    async def _answer(self, socket: ServerConnection, request: Any) -> None:
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        if method in self.on:
            try:
                answer = {"result": self.on[method](params)}
            except Refusal as refusal:
                answer = {"error": refusal.error}
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}))
        self._changed.set()

    async def notify(self, method: str, **params: Any) -> None:
        """Pushes a notification on the newest socket."""
        await self.sockets[-1].send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

    async def drop(self, code: int, reason: str = "") -> None:
        """Closes the newest socket."""
        await self.sockets[-1].close(code, reason)

    def of(self, method: str) -> list[Params]:
        """The params of every call of a method."""
        return [params for name, params in self.calls if name == method]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for something that a call or a connection brings about."""
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def begun(**more: Any) -> Params:
    """What session.connect answers."""
    return {"user_id": "alice", "last_event_id": "e0", "recovered": True, **more}


def message(seq: int) -> Params:
    """A message of the one chat here."""
    return {"message_id": f"m{seq}", "chat_id": "c", "seq": seq}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server that begins every session."""
    async with Server().listening() as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    """A client of it."""
    async with Client(server.url, "token", backoff=QUICK, times=TIMES) as client:
        yield client


async def next_of(client: Client, method: str, **having: Any) -> Notification:
    """The next notification of this name, with these params among others."""
    async with asyncio.timeout(10):
        async for note in client:
            if note.method == method and having.items() <= note.params.items():
                return note
    raise AssertionError("the client is closed")


async def test_it_starts_without_its_server() -> None:
    """`start` returns at once; the client comes when the server does, and its state tells so."""
    server = Server()
    async with server.listening():
        url = server.url
    client = Client(url, "token", backoff=QUICK, times=TIMES)
    client.start()
    await next_of(client, "state", name="waiting")
    async with serve(server._serve, "127.0.0.1", int(url.rpartition(":")[2])):
        await next_of(client, "state", name="online", transport="websocket")
        assert (await next_of(client, "session")).params["user_id"] == client.user_id == "alice"
        await client.aclose()
    assert [note.params["name"] async for note in client if note.method == "state"] == ["closed"]


async def test_an_event_is_handed_on_once_and_the_cursor_stays_behind_it(
    server: Server, client: Client
) -> None:
    """Repeated events are dropped, and take the cursor nowhere; the next session begins behind the last."""
    for event_id in ("e1", "e2", "e1", "e3"):
        await server.notify("receipt.read", event_id=event_id)
    seen = [(await next_of(client, "receipt.read")).params["event_id"] for _ in range(3)]
    assert seen == ["e1", "e2", "e3"]
    await server.notify("receipt.read", event_id="e2")
    await server.drop(4000)
    await server.until(lambda: len(server.of("session.connect")) == 2)
    assert [params.get("last_event_id") for params in server.of("session.connect")] == [None, "e3"]


async def test_what_is_lost_for_good_is_said(server: Server, client: Client) -> None:
    """A session that could not recover hands on `resync` after `session`, and goes on from its own cursor."""
    server.on["session.connect"] = lambda _: begun(recovered=False, last_event_id="f0")
    await next_of(client, "session")
    await server.drop(4001)
    await next_of(client, "session")
    assert (await next_of(client, "resync")).params == {}
    assert client.last_event_id == "f0"


@pytest.mark.parametrize("code", [1000, 1009, 4000, 4001, 4002, 4003, 4499])
async def test_codes_that_come_back(server: Server, client: Client, code: int) -> None:
    """After every close code below 4500 the client comes back by itself."""
    await server.drop(code)
    await server.until(lambda: len(server.of("session.connect")) == 2)
    assert (await client.call("session.connect"))["user_id"] == "alice"


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4999])
async def test_codes_that_do_not(server: Server, client: Client, code: int) -> None:
    """From 4500 on the client is closed: calls that wait fail, the iterator ends, nothing is tried again."""
    waiting = asyncio.create_task(client.call("chats.list"))
    await server.until(lambda: bool(server.of("chats.list")))
    await server.drop(code, "because")
    with pytest.raises(RpcError, match="because") as refused:
        await waiting
    assert refused.value.reason == f"CLIENT_CLOSED_{code}"
    assert client.state == {"name": "closed", "code": code, "reason": "because"}
    assert [note async for note in client][-1].params == client.state
    assert len(server.sockets) == 1


@pytest.mark.parametrize(("error", "closed"), [(-32016, 4501), (-32602, 4500), (-32007, 4500)])
async def test_a_session_that_is_refused(server: Server, error: int, closed: int) -> None:
    """What session.connect refuses for good is not tried again; only a bad token asks for another one."""
    asked: list[int] = []

    def refuse(_: Params) -> Params:
        raise Refusal(error)

    async def refresh() -> str:
        asked.append(error)
        return "token"

    server.on["session.connect"] = refuse
    with pytest.raises(RpcError) as refused:
        await Client(server.url, "token", refresh=refresh, backoff=QUICK, times=TIMES).__aenter__()
    assert refused.value.reason == f"CLIENT_CLOSED_{closed}"
    assert len(server.sockets) == 1
    assert len(asked) == (closed == 4501)


async def test_a_session_that_may_pass(server: Server) -> None:
    """A refusal that is retryable, or the server's own failure, is tried again, when the server says."""
    answers = iter([Refusal(-32014, retryable=True, retry_after_ms=40), Refusal(-32603)])

    def refuse_twice(_: Params) -> Params:
        for refusal in answers:
            raise refusal
        return begun()

    server.on["session.connect"] = refuse_twice
    started = time.monotonic()
    async with Client(server.url, "token", backoff=QUICK, times=TIMES):
        assert len(server.sockets) == 3
    assert time.monotonic() - started >= 0.04


async def test_a_server_that_says_nothing_is_left(server: Server) -> None:
    """Where session.connect gets no answer the client tries another connection."""
    answer = server.on.pop("session.connect")
    client = Client(server.url, "token", backoff=QUICK, times=Times(open=0.05))
    client.start()
    await server.until(lambda: len(server.sockets) >= 2)
    server.on["session.connect"] = answer
    await next_of(client, "state", name="online")
    await client.aclose()


async def test_an_edge_that_goes_away(server: Server, client: Client) -> None:
    """session.reconnect: the client leaves after the time that it names, or when the server closes."""
    started = time.monotonic()
    await server.notify("session.reconnect", after_ms=40, reason="draining")
    await server.until(lambda: len(server.of("session.connect")) == 2)
    assert time.monotonic() - started >= 0.04
    await next_of(client, "state", name="online")
    started = time.monotonic()
    await server.notify("session.reconnect", after_ms=40, reason="draining")
    await server.drop(4000)
    await server.until(lambda: len(server.of("session.connect")) == 3)
    assert time.monotonic() - started >= 0.03


async def test_an_expiring_session(server: Server) -> None:
    """Told of its end, a session is refreshed; a hook that fails changes nothing; after 4502 it is asked."""
    fresh = iter([OSError("no issuer"), "second", "third"])

    async def refresh() -> str:
        given = next(fresh)
        if isinstance(given, OSError):
            raise given
        return str(given)

    server.on["session.refresh"] = lambda _: {"expires_at": "later"}
    async with Client(server.url, "first", refresh=refresh, backoff=QUICK, times=TIMES) as client:
        for _ in range(2):
            await server.notify("session.expiring", expires_at="soon")
        await server.until(lambda: server.of("session.refresh") == [{"token": "second"}])
        await server.drop(4502)
        await server.until(lambda: len(server.of("session.connect")) == 2)
        assert [params["token"] for params in server.of("session.connect")] == ["first", "third"]
        assert not [one async for one in waiting(client) if one.method == "resync"]


async def waiting(client: Client) -> AsyncIterator[Notification]:
    """What has been handed on and not been read."""
    while not client._notes.empty():
        note = client._notes.get_nowait()
        assert note is not None
        yield note


async def test_wake_ends_a_pause(server: Server) -> None:
    """Who knows that the network is back need not wait for the backoff's end."""
    async with Client(server.url, "token", backoff=NEVER, times=TIMES) as client:
        await server.drop(1000)
        await next_of(client, "state", name="waiting")
        client.wake()
        await next_of(client, "state", name="online")
        client.wake()  # and finds the other side there
        server.on["chats.list"] = lambda _: {"chats": []}
        await client.call("chats.list")


async def test_what_is_repeated(server: Server, client: Client) -> None:
    """Throttled and retryable calls come again when the server says; refused ones do not, nor does `once`."""
    errors = iter([Refusal(-32008, retry_after_ms=30), Refusal(-32014, retryable=True)])

    def answer(_: Params) -> Params:
        for refusal in errors:
            raise refusal
        return {"chats": []}

    server.on["chats.list"] = answer
    started = time.monotonic()
    assert await client.call("chats.list") == {"chats": []}
    assert time.monotonic() - started >= 0.03
    assert len(server.of("chats.list")) == 3
    errors = iter([Refusal(-32014, retryable=True)])
    with pytest.raises(RpcError):
        await client.once("chats.list")
    errors = iter([Refusal(-32005)])
    with pytest.raises(RpcError):
        await client.call("chats.list")
    assert len(server.of("chats.list")) == 5


async def test_a_call_without_an_answer_ends_with_its_time(server: Server) -> None:
    """Its error says so; so do a send's and that of those that waited behind it."""
    async with Client(server.url, "token", call_seconds=0.05, send_seconds=0.1, times=TIMES) as client:
        with pytest.raises(RpcError) as late:
            await client.call("chats.list")
        assert (late.value.code, late.value.reason) == (-32004, "CLIENT_TIMEOUT")
        sends = [client.send("c", text) for text in ("one", "two", "three")]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        assert [outcome.reason for outcome in outcomes if isinstance(outcome, RpcError)] == [
            "CLIENT_TIMEOUT"
        ] * 3
        assert not len(client._lanes), "nothing is kept of a chat"


async def test_sends_of_one_chat_take_turns(server: Server, client: Client) -> None:
    """A throttled send goes again under its key before the next one of its chat."""
    refusals = iter([Refusal(-32008, retry_after_ms=20)])
    seqs = itertools.count(1)

    def answer(params: Params) -> Params:
        for refusal in refusals:
            raise refusal
        return {"message": {**message(next(seqs)), "text": params["text"]}}

    server.on["messages.send"] = answer
    sent = await asyncio.gather(*(client.send("c", text) for text in ("one", "two")))
    assert [one["text"] for one in sent] == ["one", "two"]
    keys = [(params["text"], params["client_msg_id"]) for params in server.of("messages.send")]
    assert [text for text, _ in keys] == ["one", "one", "two"]
    assert keys[0] == keys[1]


async def pushed(client: Client, count: int) -> list[int]:
    """The seqs of the next new messages."""
    return [(await next_of(client, "message.new")).params["message"]["seq"] for _ in range(count)]


async def knowing_six(server: Server, client: Client) -> None:
    """The client hears that the chat has six messages."""
    server.on["chats.list"] = lambda _: {"chats": [{"chat_id": "c", "seq": 6}]}
    await client.call("chats.list")


async def test_a_hole_is_filled_from_the_history(server: Server, client: Client) -> None:
    """Newest page first, and each message of it comes once; what is there already is not asked for again."""

    def history(params: Params) -> Params:
        if "before" in params:
            return {"messages": [message(5), message(6), message(7)]}
        return {"messages": [message(8)], "has_more": True}

    server.on["messages.history"] = history
    await knowing_six(server, client)
    await server.notify("message.new", event_id="e8", message=message(8))
    assert await pushed(client, 2) == [8, 7]
    assert [params.get("before") for params in server.of("messages.history")] == [None, "m8"]
    await server.notify("message.new", event_id="e9", message=message(9))
    assert await pushed(client, 1) == [9]
    assert len(server.of("messages.history")) == 2


async def test_a_message_that_is_read_is_no_hole(server: Server, client: Client) -> None:
    """What the program itself reads of the history counts as held."""
    server.on["messages.history"] = lambda _: {"messages": [message(7)]}
    await knowing_six(server, client)
    await client.call("messages.history", chat_id="c")
    await server.notify("message.new", event_id="e8", message=message(8))
    assert await pushed(client, 1) == [8]
    assert not client._holes._filling


async def test_a_hole_that_could_not_be_read(server: Server, client: Client) -> None:
    """A history that fails is asked again in the next session; one that cannot tell ends in a resync."""

    def fail(_: Params) -> Params:
        raise Refusal(-32014)

    server.on["messages.history"] = fail
    await knowing_six(server, client)
    await server.notify("message.new", event_id="e8", message=message(8))
    await server.until(lambda: len(server.of("messages.history")) == 1)
    server.on["messages.history"] = lambda _: {"messages": [message(8)]}
    await server.drop(4000)
    assert (await next_of(client, "resync")).params == {"chat_id": "c"}
    await server.notify("message.new", event_id="e9", message=message(9))
    assert await pushed(client, 1) == [9]
    assert len(server.of("messages.history")) == 2


async def test_a_reader_that_is_too_slow(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notifications that nobody reads are dropped at a bound, and `resync` says so."""
    monkeypatch.setattr(client_module, "MAX_WAITING", 5)
    for number in range(6):
        await server.notify("receipt.read", event_id=f"e{number}")
    server.on["session.ping"] = lambda _: {}
    await client.call("session.ping")
    kept = [note.method async for note in waiting(client)]
    assert kept[0] == "resync"
    assert len(kept) <= 5


def test_the_subject_of_a_token() -> None:
    """The user of a JWT is read; of anything else there is none."""
    token = tokens.issue("alice", secret="s" * 32, now=datetime.now(UTC), ttl=timedelta(hours=1))
    assert [subject(text) for text in (token, "", "a.b.c", "x", "a.W10.c")] == ["alice", "", "", "", ""]
