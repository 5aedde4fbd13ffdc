"""What the databases hold of a run's people, read with the plain driver and past all services."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pymongo
from pymongo.read_concern import ReadConcern

Document = dict[str, Any]
Mailboxes = dict[tuple[str, str], "Box"]
"""By owner and chat_id."""


@dataclass(slots=True, kw_only=True)
class Box:
    """One person's copy of one chat: its messages in the order of seq, and its chat document."""

    log: list[Document] = field(default_factory=list)
    chat: Document = field(default_factory=dict)


def read(uris: Iterable[str], run: str) -> Mailboxes:
    """All mailboxes of a run, as most members of each shard have them.

    Args:
        uris: MongoDB URIs, one a shard.
        run: what the ids of its people end with.
    """
    boxes: Mailboxes = defaultdict(lambda: Box())
    mine = {"owner": {"$regex": rf"\.{run}$"}}
    for uri in uris:
        with pymongo.MongoClient[Document](uri, serverSelectionTimeoutMS=30_000) as client:
            database = client.get_default_database("messenger", read_concern=ReadConcern("majority"))
            for message in database["messages"].find(mine).sort("seq", 1):
                boxes[message["owner"], message["chat_id"]].log.append(message)
            for chat in database["chats"].find(mine):
                boxes[chat["owner"], chat["chat_id"]].chat = chat
    return boxes
