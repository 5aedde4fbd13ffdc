"""Blocks as they lie on one shard, and the flags of chats that show them.

The document `owner:out:user` says whether the owner has blocked the user, `owner:in:user` whether the user
has blocked the owner; both lie with the owner. Whether a message may be sent is read from these. The flags
are for showing, and follow them. `out` counts its versions and `in`, on another shard, takes only later ones:
so both agree however blocking and unblocking overlap.
"""

import secrets
from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Literal

from mesh.errors import FailedPrecondition, Unavailable
from mesh.mailbox import documents
from mesh.mailbox.documents import Document
from mesh.mailbox.driver import LONGEST_S, Lane, Shard
from mesh.mailbox.model import OutboxEntry, OutboxKind

Side = Literal["out", "in"]
Block = tuple[str, Side, str]
"""Owner, side, and whom it is with."""

FLAGS: dict[Side, str] = {"out": "blocked", "in": "blocked_by_peer"}
MARK = documents.MARKS[OutboxKind.BLOCKED]

# Finds the blocks that stand; one that was lifted stays for its version.
STANDS: Document = {"blocked": {"$ne": False}}

# Chats that are told of at once after a block; what is beyond them is the relay's.
TOLD_AT_ONCE = 500

# Times that showing a block may be overtaken by others who set and lift it.
ATTEMPTS = 16


def block_key(owner: str, side: Side, other: str) -> str:
    """`_id` of a block; user ids hold no colon."""
    return f"{owner}:{side}:{other}"


def refusal(blocks: Collection[Block], owner: str, peer_id: str) -> FailedPrecondition | None:
    """Why the owner cannot write to the peer; None where nothing is in the way."""
    if (owner, "out", peer_id) in blocks:
        return FailedPrecondition("chat_id: you blocked this person; unblock first", reason="BLOCKED")
    if (owner, "in", peer_id) in blocks:
        return FailedPrecondition(
            "chat_id: this person does not take messages from you", reason="BLOCKED_BY_PEER"
        )
    return None


async def find(
    shard: Shard,
    pairs: Collection[tuple[str, str]],
    longest_s: float = LONGEST_S,
    *,
    lane: Lane = "calls",
) -> frozenset[Block]:
    """All blocks between these pairs of owner and other, by one command."""
    found: dict[str, Block] = {
        block_key(owner, side, other): (owner, side, other) for owner, other in pairs for side in FLAGS
    }
    query = {"_id": {"$in": list(found)}} | STANDS
    stand = await shard.find(
        documents.BLOCKS, query, limit=len(found), fields={"_id": 1}, longest_s=longest_s, lane=lane
    )
    return frozenset(found[one["_id"]] for one in stand)


async def flag_new(
    shard: Shard, pairs: Collection[tuple[str, str]], at: datetime, longest_s: float = LONGEST_S
) -> bool:
    """Flags chats that have just been created; whether there was anything to flag.

    First the chat, then this look: a block that comes later finds the chat by itself.
    """
    found = await find(shard, pairs, longest_s)
    for block in found:
        await show(shard, block, at, longest_s)
    return bool(found)


async def show(
    shard: Shard, block: Block, at: datetime, longest_s: float = LONGEST_S, *, tell: bool = False
) -> None:
    """Brings the flags of all chats that the block is about in line with whether it is there.

    Whoever writes flags looks again afterwards. So the last to write them has seen how the block was left.
    With `tell` each chat that changes gets an outbox mark.
    """
    owner, side, other = block
    chats = _chats_of(owner, other)
    there = block in await find(shard, [(owner, other)], longest_s)
    for _ in range(ATTEMPTS):
        query, update = _flagging(chats, FLAGS[side], there, at, tell=tell)
        await shard.run(partial(shard.chats.update_many, query, update), longest_s)
        before, there = there, block in await find(shard, [(owner, other)], longest_s)
        if there == before:
            return
    raise Unavailable("The block is being changed by others; try again.")


async def told(shard: Shard, owner: str, other: str) -> list[OutboxEntry]:
    """What is still to be told of the blocked flags of the owner's chats with somebody."""
    query = _chats_of(owner, other) | {f"{MARK}.at": {"$exists": True}}
    marked = await shard.find(documents.CHATS, query, limit=TOLD_AT_ONCE)
    return [documents.chat_entry(one, OutboxKind.BLOCKED) for one in marked]


def _chats_of(owner: str, other: str) -> Document:
    return {"_id": documents.under(owner), "peer_id": other}


def _flagging(
    chats: Document, flag: str, there: bool, at: datetime, *, tell: bool
) -> tuple[Document, Document]:
    # The peer's is not the owner's to see.
    touched = {"$max": {"touched_at": at}, **documents.NEXT_VERSION} if flag == FLAGS["out"] else {}
    # Each writing has a name of its own: the confirm of an earlier one must not clear its mark.
    mark = {MARK: {"at": at, "up_to": secrets.token_hex(8)}} if tell else {}
    if there:
        return chats | {flag: {"$exists": False}}, {"$set": {flag: True} | mark} | touched
    unset: Document = {"$unset": {flag: ""}} | ({"$set": mark} if mark else {})
    return chats | {flag: {"$exists": True}}, unset | touched
