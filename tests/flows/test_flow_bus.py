"""The real-time bus on real Redis: what is pushed, what can be read again, and how a gap shows."""

import asyncio
import contextlib
import socket
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest
import redis.asyncio

from mesh.bus import Bus
from mesh.errors import DeadlineExceeded, Unavailable
from mesh.feed import Feed
from mesh.stack import Stack
from mesh.streams import Entry, EventId


@pytest.fixture
def urls(servers: Stack) -> list[str]:
    """The Redis nodes."""
    return servers.env()["REDIS_URLS"].split()


@pytest.fixture
async def bus(urls: list[str]) -> AsyncIterator[Bus]:
    """A bus that keeps some ten events a user."""
    async with Bus(urls, retention=60, length=10) as bus:
        yield bus


@pytest.fixture
def user() -> str:
    """A user whom nobody has written to yet."""
    return f"user-{uuid.uuid4().hex}"


async def publish(bus: Bus, user: str, *payloads: bytes) -> None:
    """Publishes, and must succeed."""
    assert await bus.publish([(user, payload) for payload in payloads]) == [None] * len(payloads)


def payloads(entries: Iterable[Entry]) -> list[bytes]:
    """What was published, in order."""
    return [entry.payload for entry in entries]


async def test_what_was_published_can_be_read(bus: Bus, user: str) -> None:
    """Behind a cursor stand exactly the later events, in order, and the tip is behind all of them."""
    first = await bus.tip(user)
    await publish(bus, user, b"one", b"two")
    middle = await bus.tip(user)
    await publish(bus, user, b"three")
    for cursor, expected in ((first, [b"one", b"two", b"three"]), (middle, [b"three"])):
        page = await bus.read_after(user, cursor)
        assert page.whole
        assert payloads(page.entries) == expected
    page = await bus.read_after(user, await bus.tip(user))
    assert page.whole
    assert page.entries == ()


async def test_events_are_counted_without_a_hole(bus: Bus, user: str) -> None:
    """Many publishers at once make one order: 1, 2, 3 … of one epoch."""
    await asyncio.gather(*(publish(bus, user, b"x") for _ in range(8)))
    page = await bus.read_after(user, EventId(0, 0, 0))
    places = [entry.event_id for entry in page.entries]
    assert [place.n for place in places] == list(range(1, 9))
    assert len({place.epoch for place in places}) == 1


async def test_users_are_spread_and_served_in_one_call(bus: Bus) -> None:
    """One publish reaches users of every node, each user's events in their order."""
    users = [f"user-{uuid.uuid4().hex}" for _ in range(16)]
    assert {bus.node_of(user) for user in users} == {0, 1}
    await bus.publish([(user, payload) for payload in (b"1", b"2") for user in users])
    for user in users:
        assert payloads((await bus.read_after(user, EventId(0, 0, 0))).entries) == [b"1", b"2"]


async def test_a_lost_stream_is_a_gap(bus: Bus, user: str, urls: list[str]) -> None:
    """A node that lost its data cannot pretend: every cursor from before is a gap, also after new events."""
    before = await bus.tip(user)
    await publish(bus, user, b"one")
    cursors = [before, await bus.tip(user)]
    async with redis.asyncio.Redis.from_url(urls[bus.node_of(user)]) as node:
        await node.flushall()
    assert not (await bus.read_after(user, cursors[1])).whole
    await publish(bus, user, b"two", b"three")
    for cursor in cursors:
        assert not (await bus.read_after(user, cursor)).whole
    fresh = await bus.tip(user)
    assert fresh.epoch != cursors[1].epoch
    await publish(bus, user, b"four")
    page = await bus.read_after(user, fresh)
    assert page.whole
    assert payloads(page.entries) == [b"four"]


async def test_a_restarted_node_is_a_gap(bus: Bus, user: str, urls: list[str], servers: Stack) -> None:
    """A node that comes back may lack the last events that it took: every cursor from before is a gap."""
    before = await bus.tip(user)
    await publish(bus, user, b"one")
    cursors = [before, await bus.tip(user)]
    await asyncio.to_thread(servers.restart, f"redis-{bus.node_of(user)}")
    async with Bus(urls, retention=60, length=10) as again:
        for cursor in cursors:
            assert not (await again.read_after(user, cursor)).whole
        fresh = await again.tip(user)
        await publish(again, user, b"two")
        for cursor in cursors:
            assert not (await again.read_after(user, cursor)).whole
        page = await again.read_after(user, fresh)
        assert page.whole
        assert payloads(page.entries) == [b"two"]


async def test_a_publisher_finds_that_a_node_was_restarted(
    bus: Bus, user: str, urls: list[str], servers: Stack
) -> None:
    """Where a publisher comes first, what it publishes does not seem to follow what was there before."""
    await publish(bus, user, b"one", b"lost")
    one, lost = (entry.event_id for entry in (await bus.read_after(user, EventId(0, 0, 0))).entries)
    node = bus.node_of(user)
    async with redis.asyncio.Redis.from_url(urls[node]) as data:
        await data.xdel(f"events:{user}", f"{lost.epoch}-{lost.n}")
    await asyncio.to_thread(servers.restart, f"redis-{node}")
    async with Bus(urls, retention=60, length=10) as again:
        await publish(again, user, b"two")
        tip = await again.tip(user)
        assert tip.n == 1
        assert tip.epoch > one.epoch
        assert not (await again.read_after(user, one)).whole


async def test_a_trimmed_stream_is_a_gap(bus: Bus, user: str) -> None:
    """A cursor that the stream has outgrown is a gap; a younger one is not."""
    beginning = await bus.tip(user)
    await publish(bus, user, b"first")
    old = await bus.tip(user)
    await publish(bus, user, *[b"x"] * 400)
    young = await bus.tip(user)
    await publish(bus, user, b"last")
    assert not (await bus.read_after(user, beginning)).whole
    assert not (await bus.read_after(user, old)).whole
    page = await bus.read_after(user, young)
    assert page.whole
    assert payloads(page.entries) == [b"last"]


async def test_a_node_that_hangs_is_left_alone(user: str) -> None:
    """Publishing to a node that takes everything and answers nothing costs a share three times, then none."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        async with Bus([url], retention=60, length=10) as bus:
            outcomes = [(await bus.publish([(user, b"x")]))[0] for _ in range(4)]
    assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 3 + [Unavailable]


async def test_a_node_that_is_away(user: str) -> None:
    """Without its node a user's calls are Unavailable, and publishing says so event by event."""
    async with Bus(["redis://127.0.0.1:1"], retention=60, length=10) as bus:
        [outcome] = await bus.publish([(user, b"x")])
        assert isinstance(outcome, Unavailable)
        with pytest.raises(Unavailable):
            await bus.tip(user)
        with pytest.raises(Unavailable):
            await bus.read_after(user, EventId(1, 1, 1))
        with pytest.raises(Unavailable):
            await bus.ping()


class Heard:
    """A running feed, and what it hands out."""

    def __init__(self, urls: list[str]) -> None:
        self.entries: asyncio.Queue[tuple[str, Entry | bytes]] = asyncio.Queue()
        self.resumed: asyncio.Queue[set[str]] = asyncio.Queue()
        self.feed = Feed(
            urls,
            deliver=self._take,
            resumed=lambda users: self.resumed.put_nowait(set(users)),
        )

    def _take(self, user: str, pushed: Sequence[Entry] | bytes) -> None:
        for one in (pushed,) if isinstance(pushed, bytes) else pushed:
            self.entries.put_nowait((user, one))

    async def next(self) -> tuple[str, Entry | bytes]:
        """The next push."""
        return await asyncio.wait_for(self.entries.get(), 10)


@pytest.fixture
async def heard(urls: list[str]) -> AsyncIterator[Heard]:
    """A feed that runs."""
    heard = Heard(urls)
    running = asyncio.create_task(heard.feed.run())
    yield heard
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def subscribe(heard: Heard, user: str) -> None:
    """Subscribes, once the feed is up."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await heard.feed.subscribe(user)
            except Unavailable:
                await asyncio.sleep(0.01)


async def test_a_push(bus: Bus, heard: Heard, user: str) -> None:
    """A subscribed user's events are pushed with the ids that they have in the stream; others' are not."""
    await subscribe(heard, user)
    await publish(bus, f"{user}-not", b"somebody else's")
    await publish(bus, user, b"one", b"two")
    pushed = [await heard.next() for _ in range(2)]
    page = await bus.read_after(user, EventId(0, 0, 0))
    assert pushed == [(user, entry) for entry in page.entries]


async def test_an_ephemeral_push(bus: Bus, heard: Heard, user: str) -> None:
    """What is only told is pushed and not kept."""
    await subscribe(heard, user)
    await bus.tell([(user, b"typing")])
    assert await heard.next() == (user, b"typing")
    assert (await bus.read_after(user, EventId(0, 0, 0))).entries == ()


async def test_a_feed_that_was_cut_off_comes_back(bus: Bus, heard: Heard, user: str, urls: list[str]) -> None:
    """After losing its connection the feed subscribes again, tells for whom, and pushes go on."""
    await subscribe(heard, user)
    await publish(bus, user, b"before")
    await heard.next()
    while not heard.resumed.empty():
        heard.resumed.get_nowait()
    async with redis.asyncio.Redis.from_url(urls[bus.node_of(user)]) as node:
        await node.client_kill_filter(_type="pubsub")
    assert user in await asyncio.wait_for(heard.resumed.get(), 10)
    await publish(bus, user, b"after")
    _, entry = await heard.next()
    assert isinstance(entry, Entry)
    assert entry.payload == b"after"


async def test_a_feed_whose_node_hangs(bus: Bus, heard: Heard, user: str, servers: Stack) -> None:
    """A node that falls silent is found out, whether somebody asks or not; when it answers, pushes go on."""
    await subscribe(heard, user)
    while not heard.resumed.empty():
        heard.resumed.get_nowait()
    redis = f"redis-{bus.node_of(user)}"
    await asyncio.to_thread(servers.signal, redis, "STOP")
    try:
        async with asyncio.timeout(10):
            while user not in heard.feed.unheard():  # noqa: ASYNC110 - no other sign
                await asyncio.sleep(0.01)
    finally:
        await asyncio.to_thread(servers.signal, redis, "CONT")
    assert user in await asyncio.wait_for(heard.resumed.get(), 10)
    await publish(bus, user, b"after")
    assert isinstance((await heard.next())[1], Entry)


async def test_a_mistake_in_who_hears_ends_the_feed(bus: Bus, urls: list[str], user: str) -> None:
    """What goes wrong while a push is handed out ends `run` with its error; it is not taken for an outage."""

    def deliver(*_: object) -> None:
        raise KeyError("a mistake")

    up = asyncio.Event()
    feed = Feed(urls, deliver=deliver, resumed=lambda _: up.set())
    with contextlib.suppress(Unavailable):
        await feed.subscribe(user)  # as soon as the node is there
    running = asyncio.create_task(feed.run())
    await asyncio.wait_for(up.wait(), 10)
    await bus.tell([(user, b"typing")])
    with pytest.raises(BaseExceptionGroup) as ended:
        await asyncio.wait_for(running, 10)
    assert ended.group_contains(KeyError)


async def test_nobody_hears_what_was_unsubscribed(bus: Bus, heard: Heard, user: str) -> None:
    """After unsubscribing nothing of the user is pushed; a later subscription hears what comes then."""
    await subscribe(heard, user)
    await heard.feed.unsubscribe(user)
    other = f"{user}-other"
    await subscribe(heard, user if bus.node_of(other) != bus.node_of(user) else other)
    await heard.feed.unsubscribe(user)
    await publish(bus, user, b"unheard")
    await subscribe(heard, user)
    await publish(bus, user, b"heard")
    _, entry = await heard.next()
    assert isinstance(entry, Entry)
    assert entry.payload == b"heard"
