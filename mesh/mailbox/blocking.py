"""Blocking people: writes both shards, reads the owner's. How a block lies on a shard is in `blocks`."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from mesh.errors import InvalidArgument
from mesh.mailbox import blocks, documents
from mesh.mailbox.blocks import Block
from mesh.mailbox.cursors import parse_user_cursor
from mesh.mailbox.fold import check_user
from mesh.mailbox.model import BlockedPage, OutboxEntry
from mesh.mailbox.sharded import Sharded


class MongoBlocks(Sharded):
    """`store.Blocks` on MongoDB."""

    async def set_blocked(self, owner: str, user_id: str, *, blocked: bool) -> list[OutboxEntry]:
        """See `store.Blocks`."""
        check_user("owner", owner)
        check_user("user_id", user_id)
        if owner == user_id:
            raise InvalidArgument("user_id: must be somebody else")
        now = self._now()
        out: Block = (owner, "out", user_id)
        mirror: Block = (user_id, "in", owner)
        version = await self._set_out(out, blocked, now)
        await self._set_mirror(mirror, blocked, version)
        await asyncio.gather(
            blocks.show(self._of(owner), out, now, tell=True), blocks.show(self._of(user_id), mirror, now)
        )
        return await blocks.told(self._of(owner), owner, user_id)

    async def list_blocked(self, owner: str, cursor: str, limit: int) -> BlockedPage:
        """See `store.Blocks`."""
        shard, prefix = self._of(owner), f"{owner}:out"
        key = documents.under(prefix)
        if cursor:
            key["$gt"] = f"{prefix}:{parse_user_cursor(cursor)}"
        query = {"_id": key} | blocks.STANDS
        only_id = {"_id": 1}
        found = await shard.find(documents.BLOCKS, query, limit=limit + 1, fields=only_id, order=only_id)
        users = [one["_id"].rpartition(":")[2] for one in found]
        page = tuple(users[:limit])
        return BlockedPage(user_ids=page, next_cursor=page[-1] if len(users) > limit else "")

    async def blocked_among(self, owner: str, user_ids: Sequence[str]) -> frozenset[str]:
        """See `store.Blocks`."""
        found = await blocks.find(self._of(owner), [(owner, user_id) for user_id in user_ids])
        return frozenset(other for _, _, other in found)

    async def _set_out(self, block: Block, blocked: bool, now: datetime) -> int:
        """Writes the owner's side; gives its version."""
        shard, key = self._of(block[0]), {"_id": blocks.block_key(*block)}
        update = {"$set": {"blocked": blocked, "at": now}, "$inc": {"version": 1}}
        after = await shard.run(
            lambda: shard.blocks.find_one_and_update(
                key, update, upsert=True, return_document=ReturnDocument.AFTER
            )
        )
        assert after is not None  # noqa: S101  # an upsert leaves a document
        version: int = after["version"]
        return version

    async def _set_mirror(self, block: Block, blocked: bool, version: int) -> None:
        """Writes the blocked user's side, where no later version is there."""
        shard = self._of(block[0])
        query = {"_id": blocks.block_key(*block), "version": {"$not": {"$gte": version}}}
        update = {"$set": {"blocked": blocked, "version": version}}
        with suppress(DuplicateKeyError):  # it is there, and later
            await shard.run(lambda: shard.blocks.update_one(query, update, upsert=True))
