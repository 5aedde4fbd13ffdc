"""Leases on shards, with real shards and both drivers; the times are the test's own."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta

from mesh.mailbox.mongo import MongoMailbox

LENGTH = timedelta(seconds=15)
SECOND_NS = 1_000_000_000


async def test_one_holder_at_a_time(mongo: Callable[..., MongoMailbox]) -> None:
    """Of many processes that ask at once one gets the lease, keeps it by asking again, and has it alone."""
    work, stores = uuid.uuid4().hex, [mongo() for _ in range(4)]
    answers = await asyncio.gather(
        *(store.lease(0, work, str(name), LENGTH) for name, store in enumerate(stores))
    )
    assert sorted(answers) == [False, False, False, True]
    holder = answers.index(True)
    assert await stores[holder].lease(0, work, str(holder), LENGTH)
    assert not await stores[holder - 1].lease(0, work, str(holder - 1), LENGTH)


async def test_shards_and_works_have_leases_of_their_own(mongo: Callable[..., MongoMailbox]) -> None:
    """Holding one shard keeps nobody from the other, and one work nobody from another work."""
    work, store = uuid.uuid4().hex, mongo()
    assert await store.lease(0, work, "a", LENGTH)
    assert await store.lease(1, work, "b", LENGTH)
    assert await store.lease(0, uuid.uuid4().hex, "b", LENGTH)


async def test_a_dead_holder_is_followed(mongo: Callable[..., MongoMailbox]) -> None:
    """What a process that was killed has held is free when its time is over, and not before."""
    now = 1_700_000_000 * SECOND_NS
    work, store = uuid.uuid4().hex, mongo(clock=lambda: now)
    assert await store.lease(0, work, "dead", LENGTH)
    now += 14 * SECOND_NS
    assert not await store.lease(0, work, "next", LENGTH)
    now += SECOND_NS
    assert await store.lease(0, work, "next", LENGTH)
