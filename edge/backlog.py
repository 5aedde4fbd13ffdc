"""What a device missed: from the user's stream while that holds it, from the mailbox past that."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from edge.table import Notifications
from mesh import call
from mesh.breaker import Part
from mesh.bus import Bus
from mesh.errors import DeadlineExceeded, Unavailable
from mesh.streams import Entry, EventId
from messenger.common.v1 import types_pb2
from messenger.dbapi.v1 import dbapi_pb2, dbapi_pb2_grpc
from messenger.events.v1 import notifications_pb2

log = structlog.get_logger()

SLACK_MS = 30_000
"""How far storing and publishing may be apart, and the clocks of mailboxes and Redis.

What dbstore publishes later than 20 s after it was stored it notes as changed at that time.
"""

AT_ONCE = 64
"""Devices that are brought up at once, however many come together: where a node is back, or another edge has
died. Each is quick then, and none takes the wait for the others for a Redis that does not answer."""

BUS_SECONDS = 0.5
"""What the bus may cost a catch-up before the mailbox is asked instead."""

MAX_FILLED = 5_000
"""Events that the database fills in at most; a device that missed more is better off with a fresh start."""


class Pushed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event, ready for the wire.

    Attributes:
        place: where it stands in the user's stream; the stream's tip for what the mailbox filled in, None for
            what is ephemeral.
        event_id: as the frame has it; empty for what is ephemeral.
        frame: the JSON-RPC notification; empty for a kind that this edge does not know: it has its number,
            and there is nothing to tell.
        filled: names what the mailbox filled in, by all that it tells; empty for what came by the bus.
        accepted_at: Unix time, seconds, at which the sender's mailbox took a new message; 0 for other events.
        traceparent: context of what caused it; empty where that is not traced.
    """

    place: EventId | None
    event_id: str
    frame: bytes
    filled: str = ""
    accepted_at: float = 0.0
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """A catch-up.

    Attributes:
        events: oldest first.
        position: live events follow behind it.
        recovered: nothing is missing.
    """

    events: tuple[Pushed, ...]
    position: EventId
    recovered: bool


class Backlog:
    """Reads what a user's device missed.

    Args:
        bus: the streams.
        mailbox: the database behind them.
        now_ms: the Unix time, ms.
        nodes: how many Redis nodes the bus is spread over.
    """

    def __init__(
        self, bus: Bus, mailbox: dbapi_pb2_grpc.MailboxServiceStub, now_ms: Callable[[], int], *, nodes: int
    ) -> None:
        self._bus = bus
        self._mailbox = mailbox
        self._now_ms = now_ms
        self._parts = [Part(f"bus {node}", seconds=BUS_SECONDS) for node in range(nodes)]
        self._places = asyncio.Semaphore(AT_ONCE)
        self._notifications = Notifications()
        self._encode = msgspec.json.Encoder().encode

    def written(self, entry: Entry) -> Pushed:
        """The frame for an entry of the bus."""
        event_id = str(entry.event_id)
        envelope = notifications_pb2.Notification.FromString(entry.payload)
        created = envelope.message_new.message.created_at
        return Pushed(
            place=entry.event_id,
            event_id=event_id,
            frame=self._frame(self._notifications.write_entry(envelope, event_id)),
            accepted_at=created.seconds + created.nanos / 1e9,
            traceparent=envelope.traceparent,
        )

    def ephemeral(self, payload: bytes) -> Pushed:
        """The frame for an event that is not kept."""
        frame = self._frame(self._notifications.write_ephemeral(payload))
        return Pushed(place=None, event_id="", frame=frame)

    def _frame(self, notification: dict[str, Any] | None) -> bytes:
        if notification is None:
            log.warning("an event of a kind that this edge is too old for was left out")
            return b""
        return self._encode(notification)

    async def since(self, user_id: str, cursor: EventId | None) -> Caught:
        """Everything after a cursor; nothing, from now on, where there is none.

        Raises:
            MessengerError: neither the stream nor the mailbox could tell.
        """
        async with self._places:
            return await self._since(user_id, cursor)

    async def _since(self, user_id: str, cursor: EventId | None) -> Caught:
        if cursor is None:
            return Caught(events=(), position=await self._tip(user_id), recovered=True)
        try:
            async with self._part(user_id).asked():
                page = await self._bus.read_after(user_id, cursor)
        except (Unavailable, DeadlineExceeded):
            page = None
        if page is None or not page.whole:
            with call.on_behalf_of(user_id):  # also where no call of the user's has begun it
                return await self._filled(user_id, cursor)
        position = page.entries[-1].event_id if page.entries else cursor
        events = tuple(event for event in map(self.written, page.entries) if event.frame)
        return Caught(events=events, position=position, recovered=True)

    def _part(self, user_id: str) -> Part:
        return self._parts[self._bus.node_of(user_id)]

    async def _tip(self, user_id: str) -> EventId:
        try:
            async with self._part(user_id).asked():
                return await self._bus.tip(user_id)
        except (Unavailable, DeadlineExceeded):
            # A place in time only: coming back with it is a gap, which the mailbox fills.
            return EventId(0, 0, self._now_ms())

    async def _filled(self, user_id: str, cursor: EventId) -> Caught:
        # The tip first: what is published while the mailbox is read comes live, or twice, but not never.
        tip = await self._tip(user_id)
        since = Timestamp()
        since.FromMilliseconds(max(cursor.ms - SLACK_MS, 0))
        request = dbapi_pb2.ListChangesRequest(owner_id=user_id, since=since)
        missed: list[Message] = []
        while True:
            response = await self._mailbox.ListChanges(request)
            for changed in response.chats:
                missed.extend(_events_of(changed))
            if not response.next_page_token:
                break
            if len(missed) > MAX_FILLED:
                log.info("a device was away for too long to be filled in", user_id=user_id)
                return Caught(events=(), position=tip, recovered=False)
            request.page_token = response.next_page_token
        log.info("filled a gap from the mailbox", user_id=user_id, events=len(missed))
        return Caught(events=tuple(self._numbered(missed, cursor, tip)), position=tip, recovered=True)

    def _numbered(self, missed: list[Message], cursor: EventId, tip: EventId) -> Iterator[Pushed]:
        # As a cursor each is still the old place, so a device that stops half-way is filled in again from
        # there; only the last one is the new place.
        for index, body in enumerate(missed, start=1):
            name = _name(body)
            event_id = f"{tip if index == len(missed) else cursor}.{name}"
            frame = self._encode(self._notifications.write_body(body, event_id))
            yield Pushed(place=tip, event_id=event_id, frame=frame, filled=name)


def _name(body: Message) -> str:
    """Names an event by all that it tells: told again it has the same name, changed in any way another one.

    Clients drop an id that they have seen.
    """
    told = body.DESCRIPTOR.name.encode() + body.SerializeToString(deterministic=True)
    return hashlib.blake2b(told, digest_size=8).hexdigest()


def _events_of(changed: dbapi_pb2.ChangedChat) -> Iterator[Message]:
    """What would have been published of a chat's changes."""
    for message in changed.messages:
        yield notifications_pb2.MessageNew(message=message)
    for message in changed.changed:
        yield _change_of(message)
    yield notifications_pb2.ChatUpdated(chat=changed.chat)


def _change_of(message: types_pb2.Message) -> Message:
    if message.deleted:
        return notifications_pb2.MessageDeleted(chat_id=message.chat_id, message_id=message.message_id)
    if message.HasField("edited_at"):
        return notifications_pb2.MessageUpdated(message=message)
    return notifications_pb2.MessageNew(message=message)  # as it was sent, and told of late
