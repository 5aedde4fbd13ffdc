"""Tells the users' streams of what is stored: of events, and of the chats that they touched."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from dbstore import rules
from dbstore.lanes import in_step
from dbstore.late import LateCheck
from dbstore.rules import Published
from mesh.amqp import DONE, Outcome, Park, retry_of
from mesh.bus import Bus
from mesh.errors import InvalidArgument, NotFound, Unavailable
from mesh.mailbox.store import MailboxStore
from messenger.events.v1 import queue_pb2

ChatKey = tuple[str, str]
"""Owner and chat id."""

Told = list[Published]
"""What the users' streams are to be told of one event."""


class Teller:
    """Tells streams.

    Args:
        store: the mailboxes, where chats are read.
        bus: the users' streams.
        late: what follows when a message passed unchecked.
    """

    def __init__(self, store: MailboxStore, bus: Bus, late: LateCheck) -> None:
        self._store = store
        self._bus = bus
        self._late = late

    async def tell(self, events: Sequence[queue_pb2.Event], stored: list[Told | Exception]) -> list[Outcome]:
        """Tells of events that are stored, and asks antispam late of those that passed unchecked.

        A chat is told once, after the messages, as it then stands. An event of which only a chat cannot be
        told becomes one that tells this chat alone, for it comes again.

        Args:
            events: in order.
            stored: for each, what is to be told of it, or why it is not stored.

        Returns:
            One outcome an event.
        """
        good = {n: told for n, told in enumerate(stored) if not isinstance(told, Exception)}
        unchecked = [n for n in good if rules.is_unchecked(events[n])]
        unasked = await self._late.ask([events[n] for n in unchecked])
        # With the last event that touched it.
        last = {key: n for n, told in good.items() for key in rules.changed_chats(events[n], told)}
        unread: dict[int, list[tuple[ChatKey, Exception]]] = defaultdict(list)
        for key, chat in (await self._chats(list(last))).items():
            if isinstance(chat, Exception):
                unread[last[key]].append((key, chat))
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
        for n, missing in unread.items():
            if outcomes[n] == DONE:
                outcomes[n] = _without_chats(events[n], missing)
        return outcomes

    async def _chats(self, keys: list[ChatKey]) -> dict[ChatKey, Published | Exception]:
        """How chats stand, or why one cannot be read now; nothing of what its owner does not see listed."""
        groups: dict[int, list[ChatKey]] = defaultdict(list)
        for key in keys:
            groups[self._store.shard_of(key[0])].append(key)
        reading = [(group, asyncio.create_task(self._store.get_chats(group))) for group in groups.values()]
        await in_step([task for _, task in reading])
        found: dict[ChatKey, Published | Exception] = {}
        for group, task in reading:
            if not task.done():  # it ends by itself, within the mailbox's own bound
                found |= dict.fromkeys(group, Unavailable("The chat's shard is far behind."))
                continue
            for key, chat in zip(group, task.result(), strict=True):
                if isinstance(chat, Exception):
                    if not isinstance(chat, NotFound):
                        found[key] = chat
                elif chat.activity:
                    found[key] = rules.chat_changed(chat)
        return found

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


def _without_chats(event: queue_pb2.Event, missing: Sequence[tuple[ChatKey, Exception]]) -> Outcome:
    """All but these chats was told. What comes again as long as a shard is away should tell nothing twice."""
    [(key, error), *more] = missing
    if not more:
        event.CopyFrom(rules.chat_alone(event, *key))
    return retry_of(error)


def _outcome(error: Exception) -> Outcome:
    return Park(error.detail) if isinstance(error, InvalidArgument) else retry_of(error)
