"""Carries events over: the peer's mailbox first, then both users' streams. Idempotent at every redelivery.

An event is done when both have it. What failed goes round the retry ladder alone, without its batch.
"""

import asyncio
from collections.abc import Sequence

import structlog
from messenger.events.v1 import queue_pb2

from dbstore import rules
from dbstore.rules import Published
from mesh.amqp import DONE, Outcome, Park, Received, Retry
from mesh.bus import Bus
from mesh.errors import InvalidArgument, MessengerError, NotFound
from mesh.mailbox.model import Appended
from mesh.mailbox.store import MailboxStore

log = structlog.get_logger()

Told = list[Published]


class EventHandler:
    """Handles batches of the queue `checked`.

    Args:
        store: the mailboxes.
        bus: the users' streams.
    """

    def __init__(self, store: MailboxStore, bus: Bus) -> None:
        self._store = store
        self._bus = bus

    async def handle(self, received: Sequence[Received]) -> Sequence[Outcome]:
        """Takes effect of events; one outcome an event, in order."""
        events = [one.event for one in received]
        stored = await self._store_all(events)
        good = [event for event, told in zip(events, stored, strict=True) if not isinstance(told, Exception)]
        chats = await self._chats(good)
        plans = [
            told if isinstance(told, Exception) else [*told, *_of_chats(event, chats)]
            for event, told in zip(events, stored, strict=True)
        ]
        return await self._publish(plans)

    async def _store_all(self, events: Sequence[queue_pb2.Event]) -> list[Told | Exception]:
        """Writes the peers' mailboxes; what each event's streams are to be told, or why it failed."""
        outcomes: list[Told | Exception] = [InvalidArgument("an event of no known kind")] * len(events)
        messages = [
            (index, event.message_accepted)
            for index, event in enumerate(events)
            if event.WhichOneof("body") == "message_accepted"
        ]
        others = [
            self._store_other(index, event, outcomes)
            for index, event in enumerate(events)
            if event.WhichOneof("body") in ("read_advanced", "chat_opened")
        ]
        await asyncio.gather(self._store_messages(messages, outcomes), *others)
        return outcomes

    async def _store_messages(
        self, messages: list[tuple[int, queue_pb2.MessageAccepted]], outcomes: list[Told | Exception]
    ) -> None:
        passing = []
        for index, accepted in messages:
            if rules.is_rejected(accepted):
                outcomes[index] = [rules.sender_copy(accepted)]
                log.info(
                    "message rejected",
                    message_id=accepted.message.message_id,
                    checker=accepted.verdict.checker,
                    reason=accepted.verdict.reason,
                )
            else:
                passing.append((index, accepted))
        if not passing:
            return
        appended = await self._store.append_incoming([rules.incoming(accepted) for _, accepted in passing])
        for (index, accepted), result in zip(passing, appended, strict=True):
            outcomes[index] = (
                [rules.receiver_copy(result.message), rules.sender_copy(accepted)]
                if isinstance(result, Appended)
                else result
            )

    async def _store_other(
        self, index: int, event: queue_pb2.Event, outcomes: list[Told | Exception]
    ) -> None:
        if event.WhichOneof("body") == "chat_opened":
            outcomes[index] = []
            return
        read = event.read_advanced
        try:
            await self._store.advance_peer_read(read.peer_id, read.chat_id, read.up_to)
            outcomes[index] = [rules.receipt(read)]
        except NotFound:
            outcomes[index] = []  # the peer holds no copy whose pointer could move
        except MessengerError as error:
            outcomes[index] = error

    async def _chats(self, events: Sequence[queue_pb2.Event]) -> dict[tuple[str, str], Published | Exception]:
        keys = rules.changed_chats(events)
        found = await self._store.get_chats(keys) if keys else []
        return {
            key: chat if isinstance(chat, Exception) else rules.chat_changed(chat)
            for key, chat in zip(keys, found, strict=True)
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
                outcomes[index] = Retry(error.detail)
        return outcomes


def _of_chats(event: queue_pb2.Event, chats: dict[tuple[str, str], Published | Exception]) -> Told:
    """What an event's chats tell; a chat that could not be read now is told by its next change."""
    told = (chats.get(key) for key in rules.changed_chats([event]))
    return [published for published in told if published is not None and not isinstance(published, Exception)]


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, InvalidArgument):
        return Park(error.detail)
    return Retry(error.detail if isinstance(error, MessengerError) else type(error).__name__)
