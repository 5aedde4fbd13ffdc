"""Blocking people: writes both shards, reads the owner's. How a block lies on a shard is in `blocks`."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from pymongo.errors import DuplicateKeyError

from mesh.errors import InvalidArgument
from mesh.mailbox import blocks, documents
from mesh.mailbox.blocks import Block
from mesh.mailbox.cursors import parse_user_cursor
from mesh.mailbox.fold import check_user
from mesh.mailbox.model import BlockedPage
from mesh.mailbox.sharded import Sharded


class MongoBlocks(Sharded):
    """`store.Blocks` on MongoDB."""

    async def set_blocked(self, owner: str, user_id: str, *, blocked: bool) -> None:
        """See `store.Blocks`."""
        check_user("owner", owner)
        check_user("user_id", user_id)
        if owner == user_id:
            raise InvalidArgument("user_id: must be somebody else")
        results = await asyncio.gather(
            self._set_block((owner, "out", user_id), blocked),
            self._set_block((user_id, "in", owner), blocked),
            return_exceptions=True,
        )
        for error in filter(None, results):
            raise error

    async def list_blocked(self, owner: str, cursor: str, limit: int) -> BlockedPage:
        """See `store.Blocks`."""
        shard, prefix = self._of(owner), f"{owner}:out"
        key = documents.under(prefix)
        if cursor:
            key["$gt"] = f"{prefix}:{parse_user_cursor(cursor)}"
        found = shard.blocks.find({"_id": key}, {"_id": 1}, batch_size=limit + 2).sort("_id", 1)
        users = [one["_id"].rpartition(":")[2] for one in await shard.run(found.limit(limit + 1).to_list)]
        page = tuple(users[:limit])
        return BlockedPage(user_ids=page, next_cursor=page[-1] if len(users) > limit else "")

    async def blocked_among(self, owner: str, user_ids: Sequence[str]) -> frozenset[str]:
        """See `store.Blocks`."""
        found = await blocks.find(self._of(owner), [(owner, user_id) for user_id in user_ids])
        return frozenset(other for _, _, other in found)

    async def _set_block(self, block: Block, blocked: bool) -> None:
        """Writes one side of the block, then shows it in that side's chats."""
        shard, now = self._of(block[0]), self._now()
        key = {"_id": blocks.block_key(*block)}
        if blocked:
            with suppress(DuplicateKeyError):  # another call was as fast
                await shard.run(
                    lambda: shard.blocks.update_one(key, {"$setOnInsert": {"at": now}}, upsert=True)
                )
        else:
            await shard.run(lambda: shard.blocks.delete_one(key))
        await blocks.show(shard, block, now)
