"""Brings every shard to this program's schema, side by side. What the schema is, schema.py says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf

from mesh.errors import MessengerError
from mesh.mailbox import schema
from mesh.mailbox.driver import Driver, Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What became of one shard.

    Attributes:
        shard: its index.
        before: the schema version that it had; 0 for an empty one.
        error: why it was left as it was; None where it has this program's schema now.
    """

    shard: int
    before: int
    error: MessengerError | None


async def migrate(uris: Sequence[str], driver: Driver) -> AsyncIterator[Migrated]:
    """Migrates all shards and yields each as it is done; one that fails does not hold up the others.

    Args:
        uris: MongoDB URIs, one a shard, in shard order.
        driver: `motor` or `pymongo`.
    """
    async with AsyncExitStack() as stack:
        shards = [Shard(uri, driver, time_left=lambda: inf) for uri in uris]
        for shard in shards:
            stack.push_async_callback(shard.aclose)
        for done in asyncio.as_completed([_migrate(index, shard) for index, shard in enumerate(shards)]):
            yield await done


async def _migrate(index: int, shard: Shard) -> Migrated:
    try:
        return Migrated(shard=index, before=await schema.ensure_schema(shard), error=None)
    except MessengerError as error:
        return Migrated(shard=index, before=0, error=error)
