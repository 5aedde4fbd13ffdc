"""The push feed's beginning of a connection, on a connection that the test holds in its hands."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import cast

import pytest

from mesh.feed import _NodeFeed
from mesh.redis_wire import Connection
from mesh.streams import Entry, EventId, channel_of

EVENT = EventId(1, 1, 1)


def confirmation(user: str) -> list[bytes]:
    """What Redis says when a channel is heard."""
    return [b"subscribe", channel_of(user).encode(), b"1"]


def push(user: str) -> list[bytes]:
    """What Redis says when something is published."""
    return [b"message", channel_of(user).encode(), f"{EVENT} 1 x".encode()]


class Wire:
    """A connection that tells what was asked, and says what the test put there, one after the other."""

    def __init__(self, *answers: list[bytes]) -> None:
        self.answers = deque(answers)
        self.told: list[str] = []
        self.feed: _NodeFeed

    def write(self, _: bytes) -> None:
        self.told.append("asked")
        asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        answer = self.answers.popleft()
        self.told.append(answer[0].decode())
        self.feed._hear(answer)
        if answer[0] == b"message":
            self._answer()


class World:
    """A node's feed with everything around it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.pushed: list[str] = []
        self.feed = wire.feed = _NodeFeed("redis://127.0.0.1:1", self._deliver, self._resumed)

    def _deliver(self, user: str, _: tuple[Entry, ...] | bytes) -> None:
        self.pushed.append(user)

    def _resumed(self, users: Iterable[str]) -> None:
        self.wire.told.append(f"resumed {' '.join(sorted(users))}")

    async def begin(self) -> None:
        """A new connection."""
        await self.feed._resubscribe(cast(Connection, self.wire))


async def test_who_comes_meanwhile_is_heard_before_it_is_told() -> None:
    """A user who comes while the channels are asked for is brought up only when its own is heard, too."""
    wire = Wire(confirmation("ann"), confirmation("bob"))
    world = World(wire)
    world.feed.wanted.add("ann")
    beginning = asyncio.create_task(world.begin())
    await asyncio.sleep(0)
    world.feed.wanted.add("bob")
    await beginning
    assert wire.told == ["asked", "subscribe", "asked", "subscribe", "resumed ann bob"]


async def test_pushes_between_are_no_confirmations(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pushed while channels are asked for is handed out, and counts for nothing else."""
    monkeypatch.setattr("mesh.feed.SUBSCRIBED_AT_ONCE", 1)
    world = World(Wire())
    world.feed.wanted |= {"ann", "bob"}
    one, other = list(world.feed.wanted)
    world.wire.answers.extend((confirmation(one), push(one), confirmation(other)))
    await world.begin()
    assert world.pushed == [one]
    assert world.wire.told[-2:] == ["subscribe", "resumed ann bob"]
