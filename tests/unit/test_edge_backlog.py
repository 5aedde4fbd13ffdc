"""What the mailbox fills in of a gap, while the bus is away; mailbox and bus in hand."""

from typing import cast

import msgspec

from edge.backlog import Backlog, Pushed
from mesh.bus import Bus, EventId
from mesh.errors import Unavailable
from messenger.common.v1 import types_pb2
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

CURSOR = EventId(1, 1, 1_700_000_000_000)


class AwayBus:
    """A bus whose node does not answer."""

    async def read_after(self, _user_id: str, _cursor: EventId) -> None:
        raise Unavailable("away")

    async def tip(self, _user_id: str) -> None:
        raise Unavailable("away")


class HandMailbox:
    """A mailbox in which one chat has changed."""

    def __init__(self) -> None:
        self.chat = types_pb2.Chat(chat_id="c", version=3)

    async def ListChanges(self, _request: dbapi_pb2.ListChangesRequest) -> dbapi_pb2.ListChangesResponse:  # noqa: N802
        return dbapi_pb2.ListChangesResponse(chats=[dbapi_pb2.ChangedChat(chat=self.chat)])


async def fill(mailbox: HandMailbox) -> Pushed:
    """The one event that is filled in."""
    backlog = Backlog(
        cast(Bus, AwayBus()), cast(dbapi_pb2_grpc.MailboxServiceStub, mailbox), lambda: CURSOR.ms + 1
    )
    [event] = (await backlog.since("ann", CURSOR)).events
    return event


async def test_a_chat_that_changed_again_is_told_again() -> None:
    """A chat is filled in under one name while it stands the same; a block gives it another."""
    mailbox = HandMailbox()
    first = await fill(mailbox)
    assert (await fill(mailbox)).filled == first.filled
    mailbox.chat.MergeFrom(types_pb2.Chat(blocked=True, version=4))
    after = await fill(mailbox)
    assert after.filled != first.filled
    assert msgspec.json.decode(after.frame)["params"]["chat"]["blocked"] is True
