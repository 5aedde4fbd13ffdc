"""Carries events over: the peer's mailbox first, then both users' streams. Idempotent at every redelivery.

An event is done when both have it. What failed goes round the retry ladder alone, without its batch.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

from dbstore import rules
from dbstore.lanes import Lanes, in_step
from dbstore.late import LateCheck
from dbstore.telling import Teller, Told
from mesh import metrics
from mesh.amqp import Later, Outcome, Received
from mesh.bus import Bus
from mesh.errors import InvalidArgument, MessengerError, NotFound, Unavailable
from mesh.mailbox.model import Appended, Place
from mesh.mailbox.store import MailboxStore
from mesh.wire import message_fields, to_datetime
from messenger.events.v1 import queue_pb2

SPAM = -1
"""The lane of messages that antispam has rejected."""

MESSAGES = metrics.counter(
    "messenger_messages", "Messages that came to their receivers' mailboxes, by verdict.", ("verdict",)
)


class EventHandler:
    """Handles batches of the queue `checked`.

    Args:
        store: the mailboxes.
        bus: the users' streams.
        late: what follows when a message passed unchecked.
    """

    def __init__(self, store: MailboxStore, bus: Bus, late: LateCheck) -> None:
        self._store = store
        self._late = late
        self._teller = Teller(store, bus, late)
        self._lanes = Lanes(self._handle_alone)

    async def handle(self, received: Sequence[Received]) -> list[Outcome | Later]:
        """Takes effect of events; one outcome an event, in order.

        All shards' events go together, for that is cheap; those of a shard that is far behind go on aside.
        """
        groups: dict[int, list[int]] = defaultdict(list)
        for index, one in enumerate(received):
            groups[self._lane_of(one.event)].append(index)
        work = {
            lane: asyncio.create_task(self._store_all([received[index] for index in group]))
            for lane, group in groups.items()
            if not self._lanes.is_behind(lane)
        }
        await in_step(work.values())
        answered: dict[int, Outcome | Later] = {}
        stored: dict[int, Told | Exception] = {}
        for lane, group in groups.items():
            storing = work.get(lane)
            if storing is not None and storing.done():
                stored.update(zip(group, storing.result(), strict=True))
            else:
                later = self._later(lane, [received[index] for index in group], storing)
                answered.update(zip(group, later, strict=True))
        ready = sorted(stored)  # what is told keeps the order of the queue
        events = [received[index].event for index in ready]
        outcomes = await self._teller.tell(events, [stored[index] for index in ready])
        answered.update(zip(ready, outcomes, strict=True))
        return [answered[index] for index in range(len(received))]

    def _lane_of(self, event: queue_pb2.Event) -> int:
        """The shard that an event waits for; spam, which takes both sides', has a lane of its own."""
        spam = event.WhichOneof("body") == "message_accepted" and rules.is_rejected(event.message_accepted)
        return SPAM if spam else self._store.shard_of(rules.owner_of(event))

    def _later(
        self, lane: int, received: Sequence[Received], storing: asyncio.Task[list[Told | Exception]] | None
    ) -> list[Later]:
        """Outcomes of what is far behind with storing, or has not begun because its lane is."""
        if storing is None:
            return self._lanes.join(lane, received)
        return self._lanes.aside(lane, self._tell_after(storing, received), len(received))

    async def _handle_alone(self, received: Sequence[Received]) -> list[Outcome]:
        """The whole way of events of one shard."""
        stored = await self._store_all(received)
        return await self._teller.tell([one.event for one in received], stored)

    async def _tell_after(
        self, storing: asyncio.Task[list[Told | Exception]], received: Sequence[Received]
    ) -> list[Outcome]:
        return await self._teller.tell([one.event for one in received], await storing)

    # ── the peers' mailboxes ────────────────────────────────────────────────────────────────────────────────

    async def _store_all(self, received: Sequence[Received]) -> list[Told | Exception]:
        """Writes the peers' mailboxes: new messages all at once, the rest side by side.

        A change may overtake its message in the queue; then it finds nothing and comes again.
        """
        events = [one.event for one in received]
        expired = {n for n, one in enumerate(received) if one.delivery.expired}
        outcomes: dict[int, Told | Exception] = {}
        messages = {
            index: event.message_accepted
            for index, event in enumerate(events)
            if event.WhichOneof("body") == "message_accepted"
        }
        doubtful = {index for index, accepted in messages.items() if accepted.again or index in expired}
        outcomes.update(await self._store_messages(messages, doubtful))
        others = [index for index in range(len(events)) if index not in messages]
        told = await asyncio.gather(*(self._store_other(events[index]) for index in others))
        outcomes.update(zip(others, told, strict=True))
        stored = [outcomes[index] for index in range(len(events))]
        await self._note_late(events, stored)
        return stored

    async def _store_messages(
        self, messages: dict[int, queue_pb2.MessageAccepted], doubtful: set[int]
    ) -> dict[int, Told | Exception]:
        for accepted in messages.values():
            MESSAGES.labels(rules.verdict_of(accepted)).add()
        rejected = {index for index, accepted in messages.items() if rules.is_rejected(accepted)}
        outcomes = await self._refused_before(messages, doubtful - rejected)
        passing = [index for index in messages if index not in rejected and index not in outcomes]
        appended = await self._store.append_incoming([rules.incoming(messages[index]) for index in passing])
        refusals = await asyncio.gather(*(self._refuse(messages[index]) for index in rejected))
        outcomes.update(zip(rejected, refusals, strict=True))
        for index, result in zip(passing, appended, strict=True):
            outcomes[index] = (
                [rules.receiver_copy(result.message), rules.sender_copy(messages[index])]
                if isinstance(result, Appended)
                else result
            )
        return outcomes

    async def _refused_before(
        self, messages: dict[int, queue_pb2.MessageAccepted], doubtful: set[int]
    ) -> dict[int, Told | Exception]:
        """Of messages that may have a verdict already: the outcomes of those that were rejected by it.

        Several copies of a message are in the queues where one was published or judged again. The first
        verdict holds: what another one, or none, says on a later copy changes nothing.
        """
        before = await self._late.refused_before([messages[index] for index in doubtful])
        return {
            index: refused if isinstance(refused, MessengerError) else [rules.sender_copy(messages[index])]
            for index, refused in zip(doubtful, before, strict=True)
            if refused
        }

    async def _refuse(self, accepted: queue_pb2.MessageAccepted) -> Told | Exception:
        try:
            return await self._late.refuse(accepted)
        except MessengerError as error:
            return error

    async def _store_other(self, event: queue_pb2.Event) -> Told | Exception:
        try:
            match event.WhichOneof("body"):
                case "read_advanced":
                    return await self._read(event.read_advanced)
                case "delivered_advanced":
                    return await self._delivered(event.delivered_advanced)
                case "message_edited":
                    return await self._edited(event)
                case "message_removed":
                    return await self._removed(event.message_removed)
                case "message_judged":
                    return await self._late.settle(event.message_judged)
                case "chat_opened":
                    return []
                case _:
                    return InvalidArgument("an event of no kind that this dbstore knows")
        except MessengerError as error:
            return error

    async def _read(self, read: queue_pb2.ReadAdvanced) -> Told:
        try:
            await self._store.advance_peer_read(read.peer_id, read.chat_id, read.up_to)
        except NotFound:
            return []  # the peer holds no copy whose pointer could move
        return [rules.receipt(read)]

    async def _delivered(self, delivered: queue_pb2.DeliveredAdvanced) -> Told:
        try:
            await self._store.advance_peer_delivered(delivered.peer_id, delivered.chat_id, delivered.up_to)
        except NotFound:
            return []
        return [rules.delivery_receipt(delivered)]

    async def _edited(self, event: queue_pb2.Event) -> Told:
        edited, message = event.message_edited, event.message_edited.message
        told = [rules.message_updated(message.sender_id, message)]
        if rules.is_rejected(edited):
            place = (message.sender_id, message.chat_id, message.message_id)
            await self._store.record_rejected_edit(*place, edited.version)
            return told
        try:
            copy = await self._store.apply_edit(
                edited.receiver_id,
                message.chat_id,
                message.message_id,
                text=message.text,
                edited_at=to_datetime(message.edited_at),
                version=edited.version,
                unchecked=rules.is_unchecked(event),
                judged_at=rules.judged_at(edited.verdict),
            )
        except NotFound:
            return await self._without_copy(told, (message.sender_id, message.chat_id, message.message_id))
        return [rules.message_updated(edited.receiver_id, message_fields(copy)), *told]

    async def _removed(self, removed: queue_pb2.MessageRemoved) -> Told:
        told = [rules.message_deleted(removed.user_id, removed)]
        if not removed.for_all:
            return told
        try:
            await self._store.apply_removal(
                removed.peer_id, removed.chat_id, removed.message_id, version=removed.version
            )
        except NotFound:
            return await self._without_copy(told, (removed.user_id, removed.chat_id, removed.message_id))
        return [rules.message_deleted(removed.peer_id, removed), *told]

    async def _without_copy(self, told: Told, place: Place) -> Told:
        """What is told of a change of a message that its receiver does not have and will not get.

        Raises:
            Unavailable: the change overtook the message. It waits for as long as that is on its way: on the
                ladder, in the outbox, parked. To give up on it would make two texts of one message.
        """
        [rejected] = await self._store.are_rejected([place])
        if isinstance(rejected, MessengerError):
            raise rejected
        if not rejected:
            raise Unavailable("The message that was changed is still on its way.")
        return told

    async def _note_late(self, events: Sequence[queue_pb2.Event], stored: list[Told | Exception]) -> None:
        """Has the mailboxes bring what is told late to devices that were told of later things before."""
        now = time.time()
        late = [
            (n, place)
            for n, (event, told) in enumerate(zip(events, stored, strict=True))
            if not isinstance(told, Exception)
            for place in rules.told_late(event, told, now)
        ]
        errors = await self._store.touch([place for _, place in late]) if late else []
        for (n, _), error in zip(late, errors, strict=True):
            if error is not None:
                stored[n] = error
