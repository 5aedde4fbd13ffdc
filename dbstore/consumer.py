"""Carries events over: the peer's mailbox first, then both users' streams. Idempotent at every redelivery.

An event is done when both have it. What failed goes round the retry ladder alone, without its batch.
"""

import asyncio
import time
from collections.abc import Sequence

from dbstore import rules
from dbstore.late import LateCheck
from dbstore.rules import Published
from mesh import metrics
from mesh.amqp import DONE, Outcome, Park, Received, retry_of
from mesh.bus import Bus
from mesh.errors import InvalidArgument, MessengerError, NotFound, Unavailable
from mesh.mailbox.model import Appended, Place
from mesh.mailbox.store import MailboxStore
from mesh.wire import message_to_proto, to_datetime
from messenger.events.v1 import queue_pb2

Told = list[Published]
"""What the users' streams are to be told of one event."""


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
        self._bus = bus
        self._late = late

    async def handle(self, received: Sequence[Received]) -> Sequence[Outcome]:
        """Takes effect of events; one outcome an event, in order."""
        events = [one.event for one in received]
        expired = {n for n, one in enumerate(received) if one.delivery.expired}
        stored = await self._store_all(events, expired)
        await self._note_late(events, stored)
        good = {n: told for n, told in enumerate(stored) if not isinstance(told, Exception)}
        unchecked = [n for n in good if rules.is_unchecked(events[n])]
        unasked = await self._late.ask([events[n] for n in unchecked])
        # Each chat is told once, with the last event that touched it: after the messages, as it then stands.
        last = {key: n for n, told in good.items() for key in rules.changed_chats(events[n], told)}
        for key, chat in (await self._chats(list(last))).items():
            if isinstance(chat, Exception):
                stored[last[key]] = chat
            else:
                good[last[key]].append(chat)
        outcomes = await self._publish(
            [
                told if isinstance(told, Exception) else rules.traced(told, event.traceparent)
                for event, told in zip(events, stored, strict=True)
            ]
        )
        if unasked is not None:
            for n in unchecked:
                outcomes[n] = retry_of(unasked)
        return outcomes

    # ── the peers' mailboxes ────────────────────────────────────────────────────────────────────────────────

    async def _store_all(
        self, events: Sequence[queue_pb2.Event], expired: set[int]
    ) -> list[Told | Exception]:
        """Writes the peers' mailboxes: new messages all at once, the rest side by side.

        A change may overtake its message in the queue; then it finds nothing and comes again.
        """
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
        return [outcomes[index] for index in range(len(events))]

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
        return [rules.message_updated(edited.receiver_id, message_to_proto(copy)), *told]

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

    # ── the users' streams ──────────────────────────────────────────────────────────────────────────────────

    async def _chats(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], Published | Exception]:
        """How chats stand, or why one cannot be read now; nothing of what its owner does not see listed."""
        found = await self._store.get_chats(keys) if keys else []
        return {
            key: chat if isinstance(chat, Exception) else rules.chat_changed(chat)
            for key, chat in zip(keys, found, strict=True)
            if not isinstance(chat, NotFound) and (isinstance(chat, Exception) or chat.activity)
        }

    async def _publish(self, plans: list[Told | Exception]) -> list[Outcome]:
        """Tells the streams, in one go; each event's outcome is the worst of its parts'."""
        flat = [
            (index, published)
            for index, plan in enumerate(plans)
            if not isinstance(plan, Exception)
            for published in plan
        ]
        errors = await self._bus.publish([published for _, published in flat])
        outcomes = [_outcome(plan) if isinstance(plan, Exception) else DONE for plan in plans]
        for (index, _), error in zip(flat, errors, strict=True):
            if error is not None:
                outcomes[index] = retry_of(error)
        return outcomes


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, InvalidArgument):
        return Park(error.detail)
    return retry_of(error)
