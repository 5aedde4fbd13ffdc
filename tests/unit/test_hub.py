"""The hub and its followers, on a feed and a backlog that the test holds in its hands."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import pytest

from edge.attendance import Attendance
from edge.backlog import Backlog, Caught, Pushed
from edge.hub import Follower, Hub
from mesh.errors import Unavailable
from mesh.feed import Deliver, Feed
from mesh.streams import Entry, EventId

EPOCH = 1_700_000_000_000_000


def place(n: int) -> EventId:
    """The n-th event of the one stream here."""
    return EventId(EPOCH, n, 1_700_000_000_000 + n)


def pushed(n: int) -> Pushed:
    """The n-th event, ready for the wire."""
    return Pushed(place=place(n), event_id=str(place(n)), frame=str(n).encode())


async def until(done: Callable[[], bool]) -> None:
    """Lets everything else run until it is done; the loop's own time limit ends a wait for nothing."""
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110  # nothing here takes time
            await asyncio.sleep(0)


class HandFeed:
    """A feed whose pushes the test makes."""

    def __init__(self, deliver: Deliver, resumed: Callable[[Iterable[str]], None]) -> None:
        self.deliver = deliver
        self.resumed = resumed
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []
        self.confirm = asyncio.Event()
        self.confirm.set()
        self.away = False

    async def subscribe(self, user_id: str) -> None:
        await self.confirm.wait()
        if self.away:
            raise Unavailable("away")
        self.subscribed.append(user_id)

    async def unsubscribe(self, user_id: str) -> None:
        self.unsubscribed.append(user_id)

    def unheard(self) -> list[str]:
        return []

    def push(self, n: int) -> None:
        self.deliver("ann", (Entry(event_id=place(n), payload=str(n).encode()),))


class HandBacklog:
    """A backlog that answers what the test put there, when the test lets it."""

    def __init__(self) -> None:
        self.stream: list[Pushed] = []
        self.asked: list[EventId | None] = []
        self.answer = asyncio.Event()
        self.answer.set()
        self.away = False

    def written(self, entry: Entry) -> Pushed:
        return pushed(entry.event_id.n)

    def ephemeral(self, payload: bytes) -> Pushed:
        return Pushed(place=None, event_id="", frame=payload)

    async def since(self, _user_id: str, cursor: EventId | None) -> Caught:
        self.asked.append(cursor)
        if self.away:
            raise Unavailable("neither stream nor mailbox")
        tip = self.stream[-1].place if self.stream else place(0)
        events = tuple(one for one in self.stream if cursor and one.place and one.place.n > cursor.n)
        await self.answer.wait()
        assert tip is not None
        return Caught(events=events, position=tip, recovered=True)


class Nobody:
    """An attendance that keeps a list."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def arrive(self, user_id: str) -> None:
        self.said.append(("arrive", user_id))

    def leave(self, user_id: str) -> None:
        self.said.append(("leave", user_id))


class World:
    """A hub with everything around it."""

    def __init__(self) -> None:
        self.backlog = HandBacklog()
        self.attendance = Nobody()
        self.feeds: list[HandFeed] = []
        self.hub = Hub(cast(Backlog, self.backlog), cast(Attendance, self.attendance), self._make)
        self.feed = self.feeds[0]
        self.frames: list[bytes] = []

    def _make(self, deliver: Deliver, resumed: Callable[[Iterable[str]], None]) -> Feed:
        self.feeds.append(HandFeed(deliver, resumed))
        return cast(Feed, self.feeds[0])

    def follower(self) -> Follower:
        return Follower("ann", self.deliver)

    def deliver(self, events: Sequence[Pushed]) -> None:
        self.frames.extend(event.frame for event in events)

    async def live(self, cursor: EventId | None = None) -> Follower:
        """A follower that has joined, got its catch-up and gone live."""
        follower = self.follower()
        start = await self.hub.join(follower, cursor)
        self.deliver(start.events)
        follower.release(follower.position)
        return follower


@pytest.fixture
def world() -> World:
    """A fresh hub."""
    return World()


async def test_catch_up_comes_before_what_is_pushed_meanwhile(world: World) -> None:
    """What is pushed while the catch-up is read comes after it, once, and in order."""
    world.backlog.stream = [pushed(1), pushed(2)]
    world.backlog.answer.clear()
    follower = world.follower()
    joining = asyncio.ensure_future(world.hub.join(follower, place(0)))
    await until(lambda: bool(world.backlog.asked))
    world.feed.push(2)
    world.feed.push(3)
    world.backlog.answer.set()
    start = await joining
    assert world.frames == []
    world.deliver(start.events)
    follower.release(follower.position)
    assert world.frames == [b"1", b"2", b"3"]


async def test_missing_number_is_not_skipped(world: World) -> None:
    """An event whose number skips one is held back until the catch-up brings both, in order."""
    await world.live()
    world.feed.push(1)
    world.backlog.stream = [pushed(1), pushed(2), pushed(3)]
    world.feed.push(3)
    assert world.frames == [b"1"]
    world.feed.resumed(["ann"])
    await until(lambda: len(world.frames) == 3)
    assert world.frames == [b"1", b"2", b"3"]


async def test_an_event_with_nothing_to_tell_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this edge is too old to tell is no gap: the next event is delivered, and nobody is brought up."""
    follower = await world.live()
    world.feed.push(1)
    nothing = Pushed(place=place(2), event_id=str(place(2)), frame=b"")
    with monkeypatch.context() as patch:
        patch.setattr(world.backlog, "written", lambda _: nothing)
        world.feed.push(2)
    world.feed.push(3)
    assert world.frames == [b"1", b"3"]
    assert follower.position == place(3)


async def test_duplicates_are_dropped(world: World) -> None:
    """An event that was delivered already is not delivered again."""
    await world.live()
    for n in (1, 2, 1, 2):
        world.feed.push(n)
    assert world.frames == [b"1", b"2"]


async def test_lost_node_brings_up_from_the_device_s_place(world: World) -> None:
    """After a node was away each device is brought up from its own place."""
    await world.live()
    world.feed.push(1)
    world.backlog.stream = [pushed(1), pushed(2)]
    world.feed.resumed(["ann"])
    await until(lambda: len(world.frames) == 2)
    assert world.backlog.asked[-1] == place(1)
    world.feed.push(3)
    assert world.frames == [b"1", b"2", b"3"]


async def test_device_that_could_not_be_brought_up_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the mailbox was away, too, a device gets what it missed without waiting for a next event."""
    monkeypatch.setattr("edge.hub.POLL_SECONDS", 0.01)
    await world.live()
    polling = asyncio.create_task(world.hub._poll())
    world.backlog.away = True
    world.backlog.stream = [pushed(1)]
    world.feed.resumed(["ann"])
    await until(lambda: len(world.backlog.asked) >= 2)
    assert world.frames == []
    world.backlog.away = False
    await until(lambda: world.frames == [b"1"])
    polling.cancel()


async def test_what_is_pushed_together_is_delivered_together(world: World) -> None:
    """Events that came in one push are handed over at once, to be written at once; repeated ones are not."""
    handed: list[list[bytes]] = []
    follower = Follower("ann", lambda events: handed.append([event.frame for event in events]))
    await world.hub.join(follower, None)
    follower.release(follower.position)
    world.feed.push(1)
    world.feed.deliver("ann", tuple(Entry(event_id=place(n), payload=str(n).encode()) for n in (1, 2, 3)))
    assert handed == [[b"1"], [b"2", b"3"]]


async def test_ephemeral_events_pass_at_once(world: World) -> None:
    """An ephemeral event is delivered and moves no cursor."""
    follower = await world.live()
    world.feed.deliver("ann", b"typing")
    assert world.frames == [b"typing"]
    assert follower.position == place(0)


async def test_second_device_waits_for_the_subscription(world: World) -> None:
    """A second device does not look for what it missed before its user's events are heard."""
    world.feed.confirm.clear()
    joins = [asyncio.ensure_future(world.hub.join(world.follower(), None)) for _ in range(2)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.backlog.asked == []
    world.feed.confirm.set()
    await asyncio.gather(*joins)
    assert world.feed.subscribed == ["ann"]


async def test_last_device_ends_the_subscription(world: World) -> None:
    """A user is subscribed with the first device, and no more after the last."""
    one, two = await world.live(), await world.live()
    await world.hub.leave(one)
    assert world.feed.unsubscribed == []
    await world.hub.leave(two)
    await world.hub.leave(two)
    assert world.feed.unsubscribed == ["ann"]
    assert world.attendance.said == [("arrive", "ann"), ("leave", "ann")]
    assert len(world.hub) == 0


async def test_device_is_served_while_its_node_is_away(world: World) -> None:
    """A device joins without push while its Redis node is away."""
    world.feed.away = True
    follower = await world.live()
    assert follower.is_live


async def test_failed_join_leaves_nothing(world: World) -> None:
    """A device whose catch-up fails is not held on to."""
    world.backlog.away = True
    with pytest.raises(Unavailable):
        await world.hub.join(world.follower(), place(1))
    assert len(world.hub) == 0
    assert world.feed.unsubscribed == ["ann"]
