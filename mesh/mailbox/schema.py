"""The indexes of a shard and the version of its schema; whoever lays them is a service or `migrate`.

Each index costs every write, and is here because an operation cannot do without it.
"""

from contextlib import suppress

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import DuplicateKeyError

from mesh.errors import FailedPrecondition
from mesh.mailbox.documents import MARKS, MESSAGE_MARKS, Document
from mesh.mailbox.driver import MAJORITY, Shard

VERSION = 1
"""Goes up where programs of before would harm what this one stores. A new index or field is no reason."""

META = "meta"
SCHEMA = {"_id": "schema"}


def _marks(name: str) -> IndexModel:
    """For the relay; holds only what is unconfirmed."""
    return IndexModel(
        [(f"{name}.at", ASCENDING)], name=name, partialFilterExpression={f"{name}.at": {"$exists": True}}
    )


# (owner, chat_id, seq) is unique by `_id`.
MESSAGE_INDEXES = (
    # History, and: an incoming message is stored once.
    IndexModel(
        [("owner", ASCENDING), ("chat_id", ASCENDING), ("message_id", ASCENDING)],
        name="message_id",
        unique=True,
    ),
    # An own message is stored once.
    IndexModel(
        [("owner", ASCENDING), ("client_msg_id", ASCENDING)],
        name="client_msg_id",
        unique=True,
        partialFilterExpression={"client_msg_id": {"$exists": True}},
    ),
    # What changed, and how much of the unread is deleted; holds only messages that were edited or deleted.
    IndexModel(
        [("owner", ASCENDING), ("chat_id", ASCENDING), ("seq", DESCENDING), ("changed_at", ASCENDING)],
        name="changed",
        partialFilterExpression={"changed_at": {"$exists": True}},
    ),
    *map(_marks, MESSAGE_MARKS),
)

CHAT_INDEXES = (
    # The chat list.
    IndexModel(
        [("owner", ASCENDING), ("activity", DESCENDING), ("chat_id", ASCENDING)],
        name="activity",
        partialFilterExpression={"activity": {"$exists": True}},
    ),
    *map(_marks, MARKS.values()),
)


async def ensure_schema(shard: Shard) -> int:
    """Creates what is missing and notes the version; a shard that has it all changes nothing.

    Returns:
        The version that the shard had; 0 before its first program.

    Raises:
        FailedPrecondition: a newer program has been here, and this one must leave the shard alone.
    """
    if (before := await version(shard)) > VERSION:
        raise FailedPrecondition(
            f"The mailboxes have schema version {before}, and this program knows {VERSION} at most: it is"
            " older than its data. Deploy the newer program again.",
            reason="SCHEMA_NEWER",
        )
    await shard.run(lambda: shard.messages.create_indexes(list(MESSAGE_INDEXES)), longest_s=30)
    await shard.run(lambda: shard.chats.create_indexes(list(CHAT_INDEXES)), longest_s=30)
    if before < VERSION:
        noted = {"$max": {"version": VERSION}}
        with suppress(DuplicateKeyError):  # another process was as fast
            await shard.run(lambda: meta(shard).update_one(SCHEMA, noted, upsert=True))
    return before


async def version(shard: Shard) -> int:
    """The schema version that the shard was last given; 0 where nothing was."""
    found = await shard.run(lambda: meta(shard).find_one(SCHEMA))
    return int(found["version"]) if found else 0


def meta(shard: Shard) -> AsyncCollection[Document]:
    """What a shard knows of itself: its schema, leases."""
    return shard.messages.database.get_collection(META, write_concern=MAJORITY)
