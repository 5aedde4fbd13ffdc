"""Publishes what the outbox holds: at once after the write, and by the relay what was not confirmed.

Nothing between the write and the confirm can lose an event: its mark stays in the mailbox until the broker
has confirmed it. An event may be published twice; consumers are idempotent.
"""

import asyncio
import secrets
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from dbapi.events import event_of, exchange_of
from mesh import metrics
from mesh.amqp import Publisher
from mesh.errors import MessengerError
from mesh.mailbox.fold import whole_ms
from mesh.mailbox.leases import Leases
from mesh.mailbox.model import OutboxEntry, OutboxRef
from mesh.mailbox.store import Outbox

log = structlog.get_logger()

MAX_EVENTS = 256
"""Events in one AMQP message."""

MAX_WAITING = 20_000
"""Entries kept for publishing; beyond it they are left to the relay."""

LEASE = timedelta(seconds=15)
"""How long a relay that dies keeps a shard from the others; a batch takes some seconds at most."""


AGE = metrics.gauge(
    "messenger_outbox_age_seconds",
    "Age of a shard's oldest event that waits for the relay; 0 where none does.",
    ("shard",),
)
RELAYED = metrics.counter(
    "messenger_outbox_relayed_events", "Events that were published by the relay."
).labels()


async def publish(
    entries: Sequence[OutboxEntry], publisher: Publisher, *, again: bool = False
) -> AsyncIterator[list[OutboxRef]]:
    """Publishes entries, again maybe, one body an exchange; gives the marks of what was confirmed, each time.

    Raises:
        MessengerError: the broker did not confirm; the rest keep their marks.
    """
    by_exchange: dict[str, list[OutboxEntry]] = defaultdict(list)
    for entry in entries:
        by_exchange[exchange_of(entry)].append(entry)
    for exchange, group in by_exchange.items():
        await publisher.publish(exchange, "", [event_of(entry, again=again) for entry in group])
        now = whole_ms(datetime.now(UTC))
        yield [replace(entry.ref, queued_at=now) for entry in group]


class Announcer:
    """Publishes fresh entries in the background, as many at once as came while the last were under way.

    Marks of what was confirmed are cleared a while later, many by one command: nobody looks at them before
    they are as old as the relay wants them.

    Args:
        outbox: where their marks are.
        publisher: to RabbitMQ.
        clear_every: seconds; well below the relay's age.
    """

    def __init__(self, outbox: Outbox, publisher: Publisher, *, clear_every: float = 1.0) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._clear_every = clear_every
        self._waiting: deque[OutboxEntry] = deque()
        self._confirmed: list[OutboxRef] = []
        self._woken = asyncio.Event()

    def announce(self, entries: Sequence[OutboxEntry]) -> None:
        """Takes entries whose write has just been answered; never blocks, never fails."""
        room = MAX_WAITING - len(self._waiting)
        self._waiting.extend(entries[:room])
        self._woken.set()

    async def run(self) -> None:
        """Publishes and clears until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_what_comes())
            group.create_task(self._clear_at_times())

    async def flush(self) -> None:
        """Publishes what waits and clears the marks; what fails is left to the relay."""
        await self._publish()
        await self._clear()

    async def _publish_what_comes(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self._publish()

    async def _publish(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_EVENTS, len(self._waiting)))]
            try:
                async for confirmed in publish(batch, self._publisher):
                    self._confirmed += confirmed
            except MessengerError as error:
                log.warning("events are left to the relay", events=len(batch), cause=error.detail)

    async def _clear_at_times(self) -> None:
        while True:
            await asyncio.sleep(self._clear_every)
            await self._clear()

    async def _clear(self) -> None:
        confirmed, self._confirmed = self._confirmed, []
        if confirmed:
            await self._outbox.confirm(confirmed)


class LeasedOutbox(Outbox, Leases, Protocol):
    """What a relay works on."""


class Relay:
    """Publishes again what has kept its mark for too long.

    Every dbapi process has one; a lease lets one of them at a time empty a shard's outbox.

    Args:
        outbox: the mailboxes' outbox, and leases on its shards.
        publisher: to RabbitMQ.
        after: age of an entry that is taken for lost.
        every: pause between two looks, seconds.
    """

    def __init__(self, outbox: LeasedOutbox, publisher: Publisher, *, after: timedelta, every: float) -> None:
        self._outbox = outbox
        self._name = secrets.token_hex(8)
        self._publisher = publisher
        self._after = after
        self._every = every

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await asyncio.gather(*(self._visit(shard) for shard in range(self._outbox.shard_count)))

    async def _visit(self, shard: int) -> None:
        try:
            # A look costs little and a lease is a write: only who finds something asks for it.
            entries = await self._outbox.due(shard, self._after, 1)
            AGE.labels(str(shard)).set(_age(entries))
            # Without a broker there is nothing to do but to say how long that lasts.
            if entries and self._publisher.is_ready and await self._lease(shard, LEASE):
                await self._empty(shard)
                await self._lease(shard, timedelta(0))
        except MessengerError as error:
            log.warning("the relay could not empty an outbox", shard=shard, cause=error.detail)

    async def _empty(self, shard: int) -> None:
        first = None
        while entries := await self._outbox.due(shard, self._after, MAX_EVENTS):
            if entries[0].ref == first or not await self._lease(shard, LEASE):
                return  # its mark could not be cleared, or we were too slow: not again before the next look
            first = entries[0].ref
            async for confirmed in publish(entries, self._publisher, again=True):
                await self._outbox.confirm(confirmed)
            RELAYED.add(len(entries))
            log.info("relayed events", shard=shard, events=len(entries))

    async def _lease(self, shard: int, length: timedelta) -> bool:
        return await self._outbox.lease(shard, "relay", self._name, length)


def _age(entries: Sequence[OutboxEntry]) -> float:
    oldest = min((entry.at for entry in entries), default=None)
    return (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
