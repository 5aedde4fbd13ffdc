"""A shard that hangs holds up its own users' events and nobody else's; on the memory store."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from dbstore import lanes
from dbstore.lanes import Lanes
from mesh.amqp import DONE, Delivery, Later, Outcome, Received, Retry
from mesh.errors import MessengerError
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, IncomingMessage, StoredChat
from messenger.events.v1 import queue_pb2
from tests.unit.test_dbstore_handler import World


class HangingMailbox(MemoryMailbox):
    """Mailboxes whose shards can hang: incoming messages and chats wait there until they are let go."""

    def __init__(self, shards: int) -> None:
        super().__init__(shards)
        self.flowing: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        for shard in range(shards):
            self.flowing[shard].set()

    async def append_incoming(self, messages: Sequence[IncomingMessage]) -> list[Appended | MessengerError]:
        await self._wait([message.owner for message in messages])
        return await super().append_incoming(messages)

    async def get_chats(self, keys: Sequence[tuple[str, str]]) -> list[StoredChat | MessengerError]:
        await self._wait([owner for owner, _ in keys])
        return await super().get_chats(keys)

    async def _wait(self, owners: Sequence[str]) -> None:
        for shard in set(map(self.shard_of, owners)):
            await self.flowing[shard].wait()


class HangingWorld(World):
    """Alice is on a shard that hangs, Bob and Carol are on another; Bob writes."""

    def __init__(self) -> None:
        super().__init__(shards=2)
        self.hanging = HangingMailbox(2)
        self.store = self.hanging
        self.build()
        users = [f"user{n}" for n in range(40)]
        self.alice = next(user for user in users if self.store.shard_of(user) == 0)
        self.bob, self.carol, *_ = [user for user in users if self.store.shard_of(user) == 1]

    async def to(self, receiver: str, text: str) -> queue_pb2.Event:
        return await self.message(text, self.bob, receiver)

    def hang(self) -> None:
        self.hanging.flowing[0].clear()

    def let_go(self) -> None:
        self.hanging.flowing[0].set()


@pytest.fixture
def world() -> HangingWorld:
    """All is well with it yet."""
    return HangingWorld()


def later(outcome: Outcome | Later) -> Later:
    """An outcome that is still to come."""
    assert isinstance(outcome, asyncio.Future)
    assert not outcome.done()
    return outcome


async def test_a_hanging_shard_holds_up_its_own_users_alone(world: HangingWorld) -> None:
    """Others of its batch and of later ones are done while it hangs; then its own are, too."""
    events = {text: await world.to(world.alice, text) for text in ("one", "two", "three")}
    good = [await world.to(world.carol, text) for text in ("eins", "zwei")]
    world.hang()
    first, done = await world.handle(events["one"], good[0])
    assert done == DONE
    second, again_done, third = await world.handle(events["two"], good[1], events["three"])
    assert again_done == DONE
    assert await world.texts(world.carol, good[0]) == ["eins", "zwei"]
    assert world.bus.told.count((world.carol, "message_new")) == 2
    waiting = [later(one) for one in (first, second, third)]
    world.let_go()
    assert await asyncio.gather(*waiting) == [DONE] * 3
    assert await world.texts(world.alice, events["one"]) == ["one", "two", "three"]
    assert world.bus.told.count((world.alice, "message_new")) == 3
    assert await world.handle(await world.to(world.alice, "four")) == [DONE]


async def test_what_waits_for_a_hanging_shard_is_bounded(
    world: HangingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events beyond the bound climb the ladder, as in any outage: the prefetch is for all shards."""
    monkeypatch.setattr(lanes, "WAITING", 2)
    world.hang()
    waiting = [later(one) for one in await world.handle(await world.to(world.alice, "first"))]
    for number in range(2):
        events = [await world.to(world.alice, f"{number} {n}") for n in range(4)]
        waiting += [later(one) for one in await world.handle(*events)]
    climbing = [one.result() for one in waiting if await is_over(one)]
    assert len(climbing) in (4, 6)  # of eight: two wait, and two are at work where those had begun before
    assert all(isinstance(outcome, Retry) and outcome.outage for outcome in climbing)
    world.let_go()
    over = await asyncio.gather(*waiting)
    assert over.count(DONE) == len(waiting) - len(climbing)


async def is_over(future: Later) -> bool:
    """Whether an outcome comes without more being let go: after some turns of the event loop."""
    for _ in range(20):
        await asyncio.sleep(0)
    return future.done()


async def test_a_chat_on_a_hanging_shard_holds_up_nobody(world: HangingWorld) -> None:
    """The receiver is told of a message whose sender's chat cannot be read; that chat alone is told later."""
    event = await world.message("hello", world.alice, world.bob)
    world.hang()
    [outcome] = await world.handle(event)
    assert isinstance(outcome, Retry)
    assert outcome.outage
    assert (world.bob, "message_new") in world.bus.told
    assert (world.bob, "chat_updated") in world.bus.told
    assert (world.alice, "chat_updated") not in world.bus.told
    world.let_go()
    world.bus.told.clear()
    assert await world.handle(event) == [DONE]
    assert world.bus.told == [(world.alice, "chat_updated")]


async def test_a_lane_is_behind_until_something_in_it_is_done() -> None:
    """Trying a shard that was away holds up nobody: it joins the others only after it has answered."""
    answers: list[Outcome] = [Retry("away", outage=True), Retry("odd"), DONE]

    async def handle(received: Sequence[Received]) -> list[Any]:
        return [answers[0] for _ in received]

    behind = Lanes(handle)
    assert not behind.is_behind(3)
    states = []
    while answers:
        await asyncio.gather(*behind.join(3, [Received(event=queue_pb2.Event(), delivery=Delivery())]))
        states.append(behind.is_behind(3))
        del answers[0]
    assert states == [True, True, False]
