"""What a message and a page cost in round trips, alone and sixteen at once. Counts do not wobble as times do.

Whoever adds a round trip to a hot path changes a number here, and should know why.
"""

import asyncio

import pytest
import pytest_asyncio

from messenger.events.v1 import notifications_pb2
from tests.roundtrips.path import Path, Person

TOGETHER = 16

pytestmark = pytest.mark.parametrize("count", [1, TOGETHER])


@pytest_asyncio.fixture
async def people(path: Path, count: int) -> list[Person]:
    """So many people, each with a chat of their own; nothing is counted yet."""
    people = [await path.open(f"sender{number}") for number in range(count)]
    path.trips.forget()
    return people


async def test_accepting_messages(path: Path, people: list[Person]) -> None:
    """However many are sent at once: one call to dbapi a shard, one look at blocks, insert, fold.

    The edge calls the aggregator once a message, and asks Redis for nobody's tokens twice.
    """
    await asyncio.gather(*map(path.send, people))
    assert path.trips.calls == {"SendMessage": len(people), "AppendMessages": 1}
    assert path.trips.database == {"find": 1, "insert": 1, "update": 1}
    assert path.trips.redis == 0


async def test_announcing_messages(path: Path, people: list[Person]) -> None:
    """However many were written: one AMQP message tells of them, and one command clears their marks."""
    await asyncio.gather(*map(path.send, people))
    path.trips.forget()
    await path.announcer.flush()
    assert path.trips.bodies == {"messages": 1}
    assert path.trips.database == {"update": 1}


async def test_checking_messages(path: Path, people: list[Person]) -> None:
    """However many antispam takes: one AMQP message takes them on."""
    await asyncio.gather(*map(path.send, people))
    await path.announcer.flush()
    path.trips.forget()
    await path.check()
    assert path.trips.bodies == {"checked": 1}
    assert path.trips.database == {}


async def test_delivering_messages(path: Path, people: list[Person]) -> None:
    """However many dbstore takes: one insert, one fold, one read of the chats; one write a Redis node."""
    await asyncio.gather(*map(path.send, people))
    await path.announcer.flush()
    await path.check()
    path.trips.forget()
    await path.deliver()
    assert path.trips.database == {"insert": 1, "update": 1, "find": 1}
    assert 1 <= path.trips.redis <= 2
    assert not path.trips.bodies


async def test_a_fresh_redis_node_is_taught_the_script(path: Path, people: list[Person]) -> None:
    """A node that does not know the script learns it and begins anew, as cursors show; nothing is lost."""
    cursors = [await path.bus.tip(person.user_id) for person in people]
    for node in path.bus._nodes:
        await node.script_flush()
    await asyncio.gather(*map(path.send, people))
    await path.announcer.flush()
    await path.check()
    await path.deliver()
    for person, cursor in zip(people, cursors, strict=True):
        page = await path.bus.read_after(person.user_id, cursor)
        told = [notifications_pb2.Notification.FromString(one.payload) for one in page.entries]
        assert not page.whole
        assert [one.WhichOneof("body") for one in told[-2:]] == ["message_new", "chat_updated"]


async def test_reading_chats(path: Path, people: list[Person]) -> None:
    """A page of chats is one query, and one call to each part that completes it."""
    await asyncio.gather(*(path.ask(person, "chats.list") for person in people))
    count = len(people)
    path.trips.forget()
    await asyncio.gather(*(path.ask(person, "chats.list") for person in people))
    assert path.trips.calls == {"ListChats": 2 * count, "BatchGetProfiles": count}
    assert path.trips.database == {"find": count}
    assert path.trips.redis == 0


async def test_reading_history(path: Path, people: list[Person]) -> None:
    """A page of messages is one query."""
    await asyncio.gather(*(path.ask(p, "messages.history", chat_id=p.chat_id) for p in people))
    count = len(people)
    path.trips.forget()
    await asyncio.gather(*(path.ask(p, "messages.history", chat_id=p.chat_id) for p in people))
    assert path.trips.calls == {"GetHistory": 2 * count}
    assert path.trips.database == {"find": count}
    assert path.trips.redis == 0
