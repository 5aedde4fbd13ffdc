"""A node's one connection on real Redis: whose replies are whose, and what becomes of them when it is lost.

How bytes become replies is in `tests/unit/test_redis_wire.py`.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError, ResponseError

from mesh.bus import BORN, Bus
from mesh.errors import Unavailable
from mesh.redis_wire import Node
from mesh.stack import Stack
from mesh.streams import EventId

SECONDS = 0.5
"""That a node may hang."""


@pytest.fixture
def url(servers: Stack) -> str:
    """A Redis node."""
    return servers.env()["REDIS_URLS"].split()[0]


@pytest.fixture
async def node(url: str) -> AsyncIterator[Node]:
    """The node, not yet connected."""
    node = Node(url, 10)
    yield node
    node.close()


@pytest.fixture
async def library(url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    """The same node by the client library."""
    async with redis.asyncio.Redis.from_url(url) as library:
        yield library


@pytest.fixture
def key() -> str:
    """A key that nobody has used yet."""
    return f"test:{uuid.uuid4().hex}"


@contextlib.asynccontextmanager
async def hanging(servers: Stack) -> AsyncIterator[None]:
    """The node takes everything and answers nothing."""
    await asyncio.to_thread(servers.signal, "redis-0", "STOP")
    try:
        yield
    finally:
        await asyncio.to_thread(servers.signal, "redis-0", "CONT")


async def test_everybody_gets_their_own_replies(node: Node) -> None:
    """Of many who ask at once, from before there is a connection, each gets its own replies."""
    for _ in range(2):
        asked = [node.ask(("ECHO", f"{n}"), ("CLIENT", "ID"), ("ECHO", f"{n}.")) for n in range(200)]
        replies = await asyncio.gather(*asked)
        assert [[one, other] for one, _, other in replies] == [
            [f"{n}".encode(), f"{n}.".encode()] for n in range(200)
        ]
        assert len({client for _, client, _ in replies}) == 1


async def test_a_caller_that_goes_away(node: Node, key: str) -> None:
    """Who leaves before the connection is made sends nothing; who leaves later takes nobody's reply along."""
    early = node.ask(("INCR", key))
    patient = node.ask(("ECHO", "1"))
    early.cancel()
    assert await patient == [b"1"]
    later = node.ask(("INCR", key))
    after = node.ask(("GET", key))
    later.cancel()
    assert await after == [b"1"]


async def test_a_refused_command_is_refused_alone(node: Node, key: str) -> None:
    """An error is the reply of its command; those beside it and after it have theirs."""
    asked = node.ask(("SET", key, "x"), ("INCR", key), ("GET", key))
    fine = node.ask(("ECHO", "fine"))
    was_set, refused, value = await asked
    assert (was_set, value) == (b"OK", b"x")
    assert isinstance(refused, ResponseError)
    assert await fine == [b"fine"]


async def test_a_connection_that_is_killed(node: Node, library: "redis.asyncio.Redis", key: str) -> None:
    """All who wait hear at once that nothing is known of their commands; the next one connects anew."""
    [[client]] = [await node.ask(("CLIENT", "ID"))]
    waiting = [node.ask(("BLPOP", key, 0)), node.ask(("ECHO", "behind"))]
    async with asyncio.timeout(10):
        while "blpop" not in {one["cmd"] for one in await library.client_list()}:  # noqa: ASYNC110 - no other sign
            await asyncio.sleep(0.01)
    await library.client_kill_filter(_id=client)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionResetError] * 2
    assert await node.ask(("ECHO", "again")) == [b"again"]


async def test_a_node_that_hangs_is_given_up(url: str, servers: Stack) -> None:
    """Without an answer in time the connection is broken off, open or on the way; then it is made anew."""
    node, other = Node(url, SECONDS), Node(url, SECONDS)
    await node.ask(("PING",))
    async with hanging(servers):
        began = time.monotonic()
        waiting = [node.ask(("ECHO", "1")), node.ask(("ECHO", "2")), other.ask(("ECHO", "3"))]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        took = time.monotonic() - began
    assert [type(outcome) for outcome in outcomes] == [TimeoutError] * 3
    assert SECONDS <= took < 10 * SECONDS
    assert await node.ask(("ECHO", "again")) == [b"again"]
    assert await other.ask(("ECHO", "again")) == [b"again"]
    node.close()
    other.close()


async def test_a_wrong_password_is_told(url: str) -> None:
    """Who is not let in hears it from Redis itself, and so does who publishes."""
    wrong = url.replace("@", "x@")
    node = Node(wrong, 10)
    with pytest.raises(AuthenticationError, match="invalid username-password pair"):
        await node.ask(("PING",))
    async with Bus([wrong], retention=60, length=10) as bus:
        [outcome] = await bus.publish([("ann", b"x")])
    assert isinstance(outcome, Unavailable)
    assert isinstance(outcome.__cause__, AuthenticationError)


async def test_a_url_says_where_and_who(url: str, key: str) -> None:
    """The database and the client's name of a URL are the connection's."""
    place = f"{url}/5?client_name=wire"
    node = Node(place, 10)
    assert await node.ask(("CLIENT", "GETNAME"), ("SET", key, "x", "EX", 60)) == [b"wire", b"OK"]
    node.close()
    async with redis.asyncio.Redis.from_url(place) as library:
        assert await library.get(key) == b"x"
    async with redis.asyncio.Redis.from_url(url) as library:
        assert await library.get(key) is None


async def test_closing_tells_who_waits(node: Node, key: str) -> None:
    """Nobody waits for a connection that was closed here, made or not."""
    early = node.ask(("PING",))
    node.close()
    with pytest.raises(ConnectionResetError):
        await early
    await node.ask(("PING",))
    later = node.ask(("BLPOP", key, 0))
    node.close()
    with pytest.raises(ConnectionResetError):
        await later


async def test_publishes_that_overlap_keep_their_order(servers: Stack) -> None:
    """What one process publishes to a user lands in the order of the calls, however many are under way."""
    user = f"user-{uuid.uuid4().hex}"
    expected = [f"{n}".encode() for n in range(400)]
    async with Bus(servers.env()["REDIS_URLS"].split(), retention=60, length=1000) as bus:
        await bus.tip(user)  # the node knows the scripts now
        outcomes = await asyncio.gather(*(bus.publish([(user, payload)]) for payload in expected))
        assert outcomes == [[None]] * len(expected)
        page = await bus.read_after(user, EventId(0, 0, 0))
    assert [entry.payload for entry in page.entries] == expected


async def test_many_find_a_node_that_knows_nothing(url: str, library: "redis.asyncio.Redis") -> None:
    """However many publish to a node that lost the script, it is taught once and all are published."""
    users = [f"user-{uuid.uuid4().hex}" for _ in range(300)]
    async with Bus([url], retention=60, length=10) as bus:
        await bus.tip(users[0])
        await library.script_flush()
        assert await asyncio.gather(*(bus.publish([(user, b"x")]) for user in users)) == [[None]] * 300
        pages = [await bus.read_after(user, EventId(0, 0, 0)) for user in users]
    assert [[entry.payload for entry in page.entries] for page in pages] == [[b"x"]] * 300
    born = await library.get(BORN)
    assert born is not None
    assert int(born) <= min(page.entries[0].event_id.epoch for page in pages)


async def test_a_publisher_goes_on_after_a_restart(servers: Stack, url: str) -> None:
    """A bus whose node was restarted connects, teaches it the script and publishes, as a new epoch."""
    user = f"user-{uuid.uuid4().hex}"
    async with Bus([url], retention=60, length=10) as bus:
        assert await bus.publish([(user, b"before")]) == [None]
        before = await bus.tip(user)
        await asyncio.to_thread(servers.restart, "redis-0")
        assert await bus.publish([(user, b"after")]) == [None]
    async with Bus([url], retention=60, length=10) as again:
        entry = (await again.read_after(user, before)).entries[-1]
    assert entry.payload == b"after"
    assert entry.event_id.epoch > before.epoch
    assert entry.event_id.n == 1
