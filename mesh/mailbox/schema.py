"""The indexes of a shard. Each costs every write, and is here because an operation cannot do without it."""

from pymongo import ASCENDING, DESCENDING, IndexModel

from mesh.mailbox.documents import MARKS
from mesh.mailbox.driver import Shard

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
    # The relay; holds only what is unconfirmed.
    IndexModel(
        [("outbox.at", ASCENDING)],
        name="outbox",
        partialFilterExpression={"outbox.at": {"$exists": True}},
    ),
)

CHAT_INDEXES = (
    # The chat list.
    IndexModel(
        [("owner", ASCENDING), ("activity", DESCENDING), ("chat_id", ASCENDING)],
        name="activity",
        partialFilterExpression={"activity": {"$exists": True}},
    ),
    # The relay; each holds only what is unconfirmed.
    *(
        IndexModel(
            [(f"{mark}.at", ASCENDING)],
            name=mark,
            partialFilterExpression={f"{mark}.at": {"$exists": True}},
        )
        for mark in MARKS.values()
    ),
)


async def ensure_indexes(shard: Shard) -> None:
    """Creates what is missing; a shard that has them all changes nothing."""
    await shard.run(lambda: shard.messages.create_indexes(list(MESSAGE_INDEXES)), longest_s=30)
    await shard.run(lambda: shard.chats.create_indexes(list(CHAT_INDEXES)), longest_s=30)
