"""What dbstore does with events, whatever fails beside them; on the memory store and a bus in hand."""

from collections.abc import Sequence
from typing import cast

import pytest

from dbapi.events import entry_of, event_of
from dbstore.consumer import EventHandler
from mesh.amqp import DONE, Delivery, Outcome, Park, Received, Retry
from mesh.bus import Bus
from mesh.errors import MessengerError, Unavailable
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, NewMessage
from messenger.antispam.v1 import antispam_pb2
from messenger.events.v1 import notifications_pb2, queue_pb2


class HandBus:
    """A bus that keeps what it is told, and can be away."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.away_for: set[str] = set()

    async def publish(self, events: Sequence[tuple[str, bytes]]) -> list[MessengerError | None]:
        outcomes: list[MessengerError | None] = []
        for user_id, payload in events:
            if user_id in self.away_for:
                outcomes.append(Unavailable("away"))
                continue
            kind = notifications_pb2.Notification.FromString(payload).WhichOneof("body")
            self.told.append((user_id, str(kind)))
            outcomes.append(None)
        return outcomes


class World:
    """A store, a bus, and the handler between."""

    def __init__(self, shards: int = 1) -> None:
        self.store = MemoryMailbox(shards)
        self.bus = HandBus()
        self.handler = EventHandler(self.store, cast(Bus, self.bus))

    async def message(self, text: str, sender: str = "ann", receiver: str = "bob") -> queue_pb2.Event:
        chat = (await self.store.open_chat(sender, receiver)).chat
        new = NewMessage(owner=sender, chat_id=chat.chat_id, text=text, client_msg_id=text)
        [appended] = await self.store.append_own([new])
        assert isinstance(appended, Appended)
        return event_of(entry_of(appended.message))

    async def handle(self, *events: queue_pb2.Event) -> Sequence[Outcome]:
        return await self.handler.handle([Received(event=event, delivery=Delivery()) for event in events])

    async def texts(self, owner: str, event: queue_pb2.Event) -> list[str]:
        chat_id = event.message_accepted.message.chat_id
        page = await self.store.history(owner, chat_id, limit=10)
        return [message.text for message in page.messages]


@pytest.fixture
def world() -> World:
    """A fresh one."""
    return World()


async def test_message_reaches_the_mailbox_and_both_streams(world: World) -> None:
    """A message is in the receiver's mailbox, and both sides' devices are told of it and of the chat."""
    event = await world.message("hello")
    assert await world.handle(event) == [DONE]
    assert await world.texts("bob", event) == ["hello"]
    assert sorted(world.bus.told) == [
        ("ann", "chat_updated"),
        ("ann", "message_new"),
        ("bob", "chat_updated"),
        ("bob", "message_new"),
    ]


async def test_redelivery_stores_once_and_tells_again(world: World) -> None:
    """The same event again changes no mailbox; devices are told again, for they may not have been."""
    event = await world.message("hello")
    await world.handle(event)
    told = len(world.bus.told)
    assert await world.handle(event) == [DONE]
    assert await world.texts("bob", event) == ["hello"]
    [chat] = await world.store.get_chats([("bob", event.message_accepted.message.chat_id)])
    assert not isinstance(chat, MessengerError)
    assert chat.unread == 1
    assert len(world.bus.told) == 2 * told


async def test_chat_is_told_once_a_batch(world: World) -> None:
    """Several messages of one chat in one batch tell its state once each side."""
    events = [await world.message(text) for text in ("one", "two", "three")]
    assert await world.handle(*events) == [DONE] * 3
    assert world.bus.told.count(("bob", "message_new")) == 3
    assert world.bus.told.count(("bob", "chat_updated")) == 1


async def test_rejected_message_is_not_delivered(world: World) -> None:
    """What antispam rejected stays with its sender."""
    event = await world.message("buy now")
    event.message_accepted.verdict.decision = antispam_pb2.DECISION_REJECT
    assert await world.handle(event) == [DONE]
    assert await world.texts("bob", event) == []
    assert {user for user, _ in world.bus.told} == {"ann"}


async def test_dead_shard_hurts_only_its_users() -> None:
    """Events to users of a shard that is down are retried; the others of the batch are done."""
    world = World(shards=2)
    users = [f"user{n}" for n in range(20)]
    there = next(user for user in users if world.store.shard_of(user) == 0)
    away = next(user for user in users if world.store.shard_of(user) == 1)
    sender = next(user for user in users if world.store.shard_of(user) == 0 and user != there)
    good = await world.message("to good", sender, there)
    bad = await world.message("to bad", sender, away)
    world.store.down.add(1)
    first, second = await world.handle(good, bad)
    assert first == DONE
    assert isinstance(second, Retry)
    world.store.down.clear()
    assert await world.handle(bad) == [DONE]
    assert await world.texts(away, bad) == ["to bad"]


async def test_absent_bus_is_retried(world: World) -> None:
    """An event whose stream could not be told comes again, though its mailbox has it."""
    event = await world.message("hello")
    world.bus.away_for.add("bob")
    [outcome] = await world.handle(event)
    assert isinstance(outcome, Retry)
    assert await world.texts("bob", event) == ["hello"]


async def test_unknown_event_is_parked(world: World) -> None:
    """An event of no kind that this version knows is parked, not retried."""
    [outcome] = await world.handle(queue_pb2.Event())
    assert isinstance(outcome, Park)


async def test_read_pointer_reaches_the_peer(world: World) -> None:
    """A read pointer moves in the peer's chat, and the peer's devices get the receipt."""
    event = await world.message("hello")
    await world.handle(event)
    message = event.message_accepted.message
    read = queue_pb2.ReadAdvanced(
        user_id="bob", peer_id="ann", chat_id=message.chat_id, up_to=message.message_id
    )
    assert await world.handle(queue_pb2.Event(read_advanced=read)) == [DONE]
    [chat] = await world.store.get_chats([("ann", message.chat_id)])
    assert not isinstance(chat, MessengerError)
    assert chat.peer_read_up_to == message.message_id
    assert ("ann", "receipt_read") in world.bus.told
    assert ("bob", "chat_updated") in world.bus.told
