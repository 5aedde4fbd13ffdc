"""Nothing between the write and the queue's confirm loses an event; store and publisher in memory."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest

from dbapi.events import entry_of, event_of, exchange_of
from dbapi.outbox import Announcer, Relay, publish
from mesh.amqp import CHECKED, MESSAGES, Publisher
from mesh.errors import Unavailable
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, NewMessage, OutboxRef, StoredMessage
from mesh.mailbox.store import Outbox
from messenger.events.v1 import queue_pb2

AT_ONCE = timedelta(0)


class HandPublisher:
    """A publisher whose broker the test switches off."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, list[queue_pb2.Event]]] = []
        self.is_ready = True
        self.published = asyncio.Event()

    async def publish(self, exchange: str, _key: str, events: Sequence[queue_pb2.Event]) -> None:
        if not self.is_ready:
            raise Unavailable("no broker")
        self.bodies.append((exchange, list(events)))
        self.published.set()

    @property
    def texts(self) -> list[str]:
        return [event.message_accepted.message.text for _, events in self.bodies for event in events]


async def stored(store: MemoryMailbox, *texts: str) -> list[StoredMessage]:
    """Messages from ann to bob in ann's mailbox."""
    chat = (await store.open_chat("ann", "bob")).chat
    new = [NewMessage(owner="ann", chat_id=chat.chat_id, text=text, client_msg_id=text) for text in texts]
    appended = await store.append_own(new)
    return [one.message for one in appended if isinstance(one, Appended)]


@pytest.fixture
def store() -> MemoryMailbox:
    """An empty store."""
    return MemoryMailbox()


@pytest.fixture
def broker() -> HandPublisher:
    """A broker that is there."""
    return HandPublisher()


async def test_confirmed_events_lose_their_marks(store: MemoryMailbox, broker: HandPublisher) -> None:
    """What the broker confirmed is no longer due; openings go past antispam, texts through it."""
    await stored(store, "one", "two")
    async for confirmed in publish(await store.due(0, AT_ONCE, 10), cast(Publisher, broker)):
        await store.confirm(confirmed)
    assert await store.due(0, AT_ONCE, 10) == []
    assert {exchange: len(events) for exchange, events in broker.bodies} == {MESSAGES: 2, CHECKED: 1}


async def test_announcer_gathers_in_order(store: MemoryMailbox, broker: HandPublisher) -> None:
    """What waits is published as one body, in the order of writing."""
    messages = await stored(store, "one", "two", "three")
    announcer = Announcer(store, cast(Publisher, broker))
    announcer.announce([entry_of(message) for message in messages])
    await announcer.flush()
    assert broker.texts == ["one", "two", "three"]
    assert len(broker.bodies) == 1


class CountedOutbox:
    """An outbox that notes which marks are cleared together."""

    def __init__(self) -> None:
        self.cleared: list[list[OutboxRef]] = []

    async def confirm(self, refs: Sequence[OutboxRef]) -> None:
        self.cleared.append(list(refs))


async def test_marks_are_cleared_together(store: MemoryMailbox, broker: HandPublisher) -> None:
    """What the broker confirmed one after the other loses its marks at once, each with its own time."""
    messages = await stored(store, "one", "two")
    outbox = CountedOutbox()
    announcer = Announcer(cast(Outbox, outbox), cast(Publisher, broker), clear_every=3600)
    running = asyncio.ensure_future(announcer.run())
    try:
        async with asyncio.timeout(5):
            for message in messages:
                announcer.announce([entry_of(message)])
                await broker.published.wait()
                broker.published.clear()
            await announcer.flush()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert outbox.cleared == [[entry_of(message).ref for message in messages]]
    assert all(ref.queued_at for ref in outbox.cleared[0])


async def test_broker_s_absence_loses_nothing(store: MemoryMailbox, broker: HandPublisher) -> None:
    """What could not be announced keeps its mark, and the relay publishes it when the broker is back."""
    messages = await stored(store, "one")
    broker.is_ready = False
    announcer = Announcer(store, cast(Publisher, broker))
    announcer.announce([entry_of(message) for message in messages])
    await announcer.flush()
    assert broker.bodies == []
    broker.is_ready = True
    relay = Relay(store, cast(Publisher, broker), after=AT_ONCE, every=0.001)
    running = asyncio.ensure_future(relay.run())
    try:
        async with asyncio.timeout(5):
            while "one" not in broker.texts:
                await broker.published.wait()
                broker.published.clear()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_published_again_says_so(store: MemoryMailbox, broker: HandPublisher) -> None:
    """A message of the relay's may have been published before, and have a verdict already."""
    [message] = await stored(store, "hello")
    assert not event_of(entry_of(message)).message_accepted.again
    async for _ in publish(await store.due(0, AT_ONCE, 10), cast(Publisher, broker), again=True):
        pass
    told = [event for _, events in broker.bodies for event in events if event.HasField("message_accepted")]
    assert [event.message_accepted.again for event in told] == [True]


async def test_event_carries_the_sender_s_copy(store: MemoryMailbox) -> None:
    """The event of a message names its receiver and carries the copy that the sender holds."""
    [message] = await stored(store, "hello")
    event = event_of(entry_of(message))
    assert exchange_of(entry_of(message)) == MESSAGES
    assert event.message_accepted.receiver_id == "bob"
    assert event.message_accepted.message.message_id == message.message_id
    assert event.message_accepted.message.seq == 1
    assert event.accepted_at.ToMilliseconds() == round(message.stored_at.timestamp() * 1000)


async def test_read_pointer_s_event_names_the_peer(store: MemoryMailbox, broker: HandPublisher) -> None:
    """The event of a read pointer goes to the peer, past antispam, and is due until it is confirmed."""
    [message] = await stored(store, "hello")
    await store.mark_read("ann", message.chat_id, message.message_id)
    entries = await store.due(0, AT_ONCE, 10)
    [read] = [event_of(entry).read_advanced for entry in entries if event_of(entry).HasField("read_advanced")]
    assert (read.user_id, read.peer_id, read.up_to) == ("ann", "bob", message.message_id)


async def test_a_block_s_event_names_the_owner_s_chat(store: MemoryMailbox) -> None:
    """The event of a block goes past antispam and has the owner's chat shown as it then stands."""
    chat = (await store.open_chat("ann", "bob", "bike")).chat
    [entry] = await store.set_blocked("ann", "bob", blocked=True)
    assert exchange_of(entry) == CHECKED
    opened = event_of(entry).chat_opened
    assert (opened.user_id, opened.peer_id, opened.chat_id) == ("ann", "bob", chat.chat_id)
    assert opened.item_id == "bike"
