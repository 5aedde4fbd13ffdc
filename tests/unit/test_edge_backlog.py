"""What a device missed, from a stream and a mailbox that the test holds in its hands."""

import asyncio
import json
from collections.abc import Sequence
from typing import cast

import pytest

from edge.backlog import AT_ONCE, Backlog, Caught
from mesh.bus import Bus
from mesh.errors import Unavailable
from mesh.streams import Entry, EventId, Page
from messenger.common.v1 import types_pb2
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc

EPOCH = 1_700_000_000_000_000
NOW_MS = 1_700_000_100_000
CURSOR = EventId(EPOCH, 7, 1_700_000_000_000)
TIP = EventId(EPOCH, 5, 1_700_000_000_500)


class Lost:
    """A bus whose streams hold nothing of before; its node may be away as well."""

    def __init__(self) -> None:
        self.away = False
        self.reading = self.most = 0

    def node_of(self, _user_id: str) -> int:
        return 0

    async def tip(self, _user_id: str) -> EventId:
        if self.away:
            raise Unavailable("away")
        return TIP

    async def read_after(self, _user_id: str, _cursor: EventId) -> Page:
        self.reading += 1
        self.most = max(self.most, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        if self.away:
            raise Unavailable("away")
        return Page(entries=(), whole=False)


class Mailbox:
    """A mailbox whose changes the test puts there."""

    def __init__(self) -> None:
        self.chats: list[dbapi_pb2.ChangedChat] = []
        self.since_ms: list[int] = []
        self.next_page_token = ""

    async def ListChanges(  # noqa: N802  # the stub's name
        self, request: dbapi_pb2.ListChangesRequest
    ) -> dbapi_pb2.ListChangesResponse:
        self.since_ms.append(request.since.ToMilliseconds())
        return dbapi_pb2.ListChangesResponse(chats=self.chats, next_page_token=self.next_page_token)


class World:
    """A backlog with everything around it."""

    def __init__(self) -> None:
        self.bus, self.mailbox = Lost(), Mailbox()
        mailbox = cast(dbapi_pb2_grpc.MailboxServiceStub, self.mailbox)
        self.backlog = Backlog(cast(Bus, self.bus), mailbox, lambda: NOW_MS, nodes=1)

    async def since(self, cursor: EventId = CURSOR) -> Caught:
        """A catch-up."""
        return await self.backlog.since("ann", cursor)


def chat(*texts: str, version: int = 1, changed: Sequence[types_pb2.Message] = ()) -> dbapi_pb2.ChangedChat:
    """A chat in which these messages came."""
    messages = [types_pb2.Message(message_id=f"m-{text}", chat_id="c", text=text) for text in texts]
    state = types_pb2.Chat(chat_id="c", seq=len(texts), version=version)
    return dbapi_pb2.ChangedChat(chat=state, messages=messages, changed=changed)


def ids(caught: Caught) -> list[str]:
    """The ids of what is filled in."""
    return [event.event_id for event in caught.events]


async def test_a_filled_id_is_never_one_of_the_stream() -> None:
    """No id of what is filled in is the tip's own: the client may have had that event, and drop this one."""
    world = World()
    world.mailbox.chats = [chat("one", "two")]
    caught = await world.since()
    assert str(TIP) not in ids(caught)
    assert [EventId.parse(event_id) for event_id in ids(caught)] == [CURSOR, CURSOR, TIP]
    assert [json.loads(event.frame)["params"]["event_id"] for event in caught.events] == ids(caught)


async def test_what_was_told_late_is_filled_in_as_what_it_is() -> None:
    """Of what changed, deletions and edits are told as such; what is neither was told late, and is new."""
    world = World()
    late, edited, gone = (
        types_pb2.Message(message_id=name, chat_id="c") for name in ("late", "edited", "gone")
    )
    edited.edited_at.FromMilliseconds(NOW_MS)
    gone.deleted = True
    world.mailbox.chats = [chat(changed=(late, edited, gone))]
    told = [json.loads(event.frame)["method"] for event in (await world.since()).events]
    assert told == ["message.new", "message.updated", "message.deleted", "chat.updated"]


async def test_a_gap_is_filled_from_before_the_cursor() -> None:
    """The mailbox is asked from half a minute before the last event: what was stored then may be later."""
    world = World()
    await world.since()
    assert world.mailbox.since_ms == [CURSOR.ms - 30_000]


async def test_the_same_is_filled_in_under_the_same_id() -> None:
    """Who drops off half-way and is filled in again can drop what it has."""
    world = World()
    world.mailbox.chats = [chat("one", "two")]
    assert ids(await world.since()) == ids(await world.since())


async def test_what_tells_more_has_another_id() -> None:
    """A message that was edited and a chat that moved on between two fillings are not dropped as seen."""
    world = World()
    world.mailbox.chats = [chat("one", version=1)]
    first = ids(await world.since())
    world.mailbox.chats = [chat("one", version=2)]
    world.mailbox.chats[0].messages[0].text = "edited"
    assert not set(first) & set(ids(await world.since()))


async def test_a_chat_that_moves_on_while_its_node_is_away_is_told_each_time() -> None:
    """Without its Redis node a device is told each new state of a chat, also where only a receipt came."""
    world = World()
    world.bus.away = True
    world.mailbox.chats = [chat(version=1)]
    (first,) = (await world.since()).events
    world.mailbox.chats[0].chat.peer_read_up_to = "m-one"
    (second,) = (await world.since()).events
    assert first.filled != second.filled


async def test_a_device_that_was_away_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound nothing is filled in: the device is told so, and begins anew from the tip."""
    monkeypatch.setattr("edge.backlog.MAX_FILLED", 3)
    world = World()
    world.mailbox.chats = [chat("one", "two")]
    world.mailbox.next_page_token = "more"
    caught = await world.since()
    assert (caught.recovered, caught.events, caught.position) == (False, (), TIP)
    assert len(world.mailbox.since_ms) == 2


def test_an_event_of_later_days_has_no_frame() -> None:
    """An entry that a newer dbstore wrote keeps its place, and an old edge lives on."""
    written = World().backlog.written(Entry(event_id=CURSOR, payload=b""))
    assert (written.place, written.frame) == (CURSOR, b"")


async def test_however_many_come_few_are_brought_up_at_once() -> None:
    """Who comes back with thousands of others does not take the wait for them for a bus that is away."""
    world = World()
    caught = await asyncio.gather(*(world.since() for _ in range(5 * AT_ONCE)))
    assert world.bus.most == AT_ONCE
    assert all(one.position == TIP for one in caught)
