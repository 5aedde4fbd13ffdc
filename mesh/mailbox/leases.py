"""Leases on shards: of many processes, one at a time does a shard's periodic work. Kept in the shard itself.

A lease saves work and guards nothing: a holder that was stopped for longer than its lease goes on beside the
next one. What it is taken for must do no harm when it is done twice.
"""

from datetime import timedelta
from typing import Protocol

from pymongo.errors import DuplicateKeyError

from mesh.mailbox.schema import meta
from mesh.mailbox.sharded import Sharded


class Leases(Protocol):
    """Who does what on which shard."""

    async def lease(self, shard: int, work: str, holder: str, length: timedelta) -> bool:
        """Whether the holder may do this work on the shard for so long, from now on; renews its own lease.

        Raises:
            MessengerError: the shard does not answer.
        """
        ...


class MongoLeases(Sharded):
    """Leases in each shard's `meta` collection; their ends are by the processes' clocks."""

    async def lease(self, shard: int, work: str, holder: str, length: timedelta) -> bool:
        """See `Leases`."""
        at, now = self._shards[shard], self._now()
        mine_or_over = {"_id": f"lease:{work}", "$or": [{"holder": holder}, {"until": {"$lte": now}}]}
        taken = {"$set": {"holder": holder, "until": now + length}}
        try:
            await at.run(lambda: meta(at).update_one(mine_or_over, taken, upsert=True))
        except DuplicateKeyError:  # it is there, and another's
            return False
        return True
