"""A shard that hangs holds up its own users' messages and nobody else's, at the aggregator and at dbapi."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

import pytest

from aggregator.parts import Parts
from aggregator.people import People
from aggregator.service import MessengerService
from dbapi.outbox import Announcer
from dbapi.service import MailboxService
from mesh import call
from mesh.amqp import Publisher
from mesh.assertion import Verifier
from mesh.batching import MANY
from mesh.errors import MessengerError
from mesh.mailbox.buckets import BucketMap
from mesh.mailbox.memory import MemoryMailbox
from mesh.mailbox.model import Appended, NewMessage
from messenger.aggregator.v1 import aggregator_pb2
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

SHARDS = BucketMap.even(8)


def user(shard: int) -> str:
    """Somebody who lives there."""
    names = (f"user-{n}" for n in itertools.count())
    return next(name for name in names if SHARDS.node_of(name) == shard)


class Hanging:
    """Lets nobody of one shard through before the test says so."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()

    async def hold(self, owners: Sequence[str]) -> None:
        """Waits where one of them lives on shard 0."""
        if any(SHARDS.node_of(owner) == 0 for owner in owners):
            await self.woken.wait()


class HangingMailbox(MemoryMailbox):
    """A store of eight shards, one of which hangs."""

    def __init__(self, hanging: Hanging) -> None:
        super().__init__(8)
        self._hanging = hanging

    async def append_own(self, messages: Sequence[NewMessage]) -> list[Appended | MessengerError]:
        await self._hanging.hold([message.owner for message in messages])
        return await super().append_own(messages)


class HangingDbapi:
    """dbapi's stub, as far as sending needs it."""

    def __init__(self, hanging: Hanging) -> None:
        self._hanging = hanging

    async def AppendMessages(self, request: dbapi_pb2.AppendMessagesRequest) -> Any:  # noqa: N802
        await self._hanging.hold([message.owner_id for message in request.messages])
        results = [dbapi_pb2.AppendResult(appended=dbapi_pb2.Appended())] * len(request.messages)
        return dbapi_pb2.AppendMessagesResponse(results=results)


class Quiet:
    """An announcer that tells nobody."""

    def announce(self, _entries: object) -> None:
        pass


@pytest.fixture
def hanging() -> Hanging:
    """Shard 0 hangs."""
    return Hanging()


async def test_dbapi_writes_on(hanging: Hanging) -> None:
    """While one shard's write hangs, those of all others are done at once, one after the other."""
    store = HangingMailbox(hanging)
    service = MailboxService(store, cast(Announcer, Quiet()), Verifier())

    async def send(owner: str) -> dbapi_pb2.AppendResult:
        chat_id = (await store.open_chat(owner, "peer")).chat.chat_id
        message = dbapi_pb2.NewMessage(owner_id=owner, chat_id=chat_id, text="hi", client_msg_id="1")
        request = dbapi_pb2.AppendMessagesRequest(messages=[message])
        with call.on_behalf_of(owner):
            return (await service.AppendMessages(request, cast(Any, None))).results[0]

    stuck = [asyncio.create_task(send(user(0))) for _ in range(3)]
    await asyncio.sleep(0)
    for shard in range(1, 8):
        assert (await asyncio.wait_for(send(user(shard)), 5)).HasField("appended")
    assert not any(task.done() for task in stuck)
    hanging.woken.set()
    assert all(result.HasField("appended") for result in await asyncio.gather(*stuck))


class CountingPublisher:
    """Keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[int] = []

    async def publish(self, _exchange: str, _key: str, events: Sequence[Any]) -> None:
        self.bodies.append(len(events))


async def test_shards_that_write_side_by_side_are_announced_together(hanging: Hanging) -> None:
    """Under load the messages of two shards whose writes overlap go into one body, though one ended first."""
    store, publisher = HangingMailbox(hanging), CountingPublisher()
    announcer = Announcer(store, cast(Publisher, publisher))
    service = MailboxService(store, announcer, Verifier())
    owners = [user(shard) for shard in (0, 1)]
    chats = {owner: (await store.open_chat(owner, "peer")).chat.chat_id for owner in owners}

    async def send(owner: str) -> None:
        many = [
            dbapi_pb2.NewMessage(owner_id=owner, chat_id=chats[owner], text="hi", client_msg_id=str(n))
            for n in range(MANY)
        ]
        with call.on_behalf_of(owner):
            await service.AppendMessages(dbapi_pb2.AppendMessagesRequest(messages=many), cast(Any, None))

    announcing = asyncio.create_task(announcer.run())
    sends = [asyncio.create_task(send(owner)) for owner in owners]
    for _ in range(10):
        await asyncio.sleep(0)
    hanging.woken.set()
    await asyncio.gather(*sends)
    for _ in range(10):
        await asyncio.sleep(0)
    announcing.cancel()
    assert publisher.bodies == [2 * MANY]


async def test_the_aggregator_hands_on(hanging: Hanging) -> None:
    """While dbapi does not answer for one shard's users, the others' messages are not in the same batches."""
    mailbox = cast(dbapi_pb2_grpc.MailboxServiceStub, HangingDbapi(hanging))
    service = MessengerService(mailbox, cast(Parts, None), cast(People, None), lanes=8)

    async def send(owner: str) -> None:
        with call.on_behalf_of(owner):
            await service.SendMessage(aggregator_pb2.SendMessageRequest(text="hi"), cast(Any, None))

    stuck = []
    for _ in range(50):
        stuck.append(asyncio.create_task(send(user(0))))
        await asyncio.sleep(0)
    for shard in range(1, 8):
        await asyncio.wait_for(send(user(shard)), 5)
    assert not any(task.done() for task in stuck)
    hanging.woken.set()
    await asyncio.gather(*stuck)
