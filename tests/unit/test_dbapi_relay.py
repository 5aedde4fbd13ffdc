"""The relay among its like: of many dbapi processes one publishes what an outbox holds."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from dbapi.outbox import Relay
from mesh.amqp import Publisher
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, NewMessage
from messenger.events.v1.queue_pb2 import Event

NOW = timedelta(0)


class SlowPublisher:
    """Takes its time, so that relays that look at the same entries would meet."""

    is_ready = True

    def __init__(self) -> None:
        self.published: list[str] = []

    async def publish(self, _exchange: str, _key: str, events: Sequence[Event]) -> None:
        """Keeps what was sent."""
        await asyncio.sleep(0.05)
        self.published += [event.message_accepted.message.text for event in events]


async def test_one_relay_an_entry() -> None:
    """Four relays that wake up together publish each event once; afterwards nothing waits."""
    store, publisher = MemoryMailbox(), SlowPublisher()
    chat = (await store.open_chat("ann", "bob")).chat
    await store.confirm([entry.ref for entry in await store.due(0, NOW, 10)])
    texts = [f"{n}" for n in range(10)]
    new = [NewMessage(owner="ann", chat_id=chat.chat_id, text=text, client_msg_id=text) for text in texts]
    assert all(isinstance(one, Appended) for one in await store.append_own(new))
    relays = [Relay(store, cast(Publisher, publisher), after=NOW, every=0.01) for _ in range(4)]
    running = [asyncio.create_task(relay.run()) for relay in relays]
    async with asyncio.timeout(10):
        while await store.due(0, NOW, 10):  # noqa: ASYNC110  # an empty outbox tells nobody
            await asyncio.sleep(0.01)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert sorted(publisher.published) == sorted(texts)
    assert await store.lease(0, "relay", "the next one", NOW)  # nobody has to wait for a relay that is gone
