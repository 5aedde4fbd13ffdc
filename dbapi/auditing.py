"""Looks at times whether what the queue has confirmed has come to its receivers; if not, announces it again.

The outbox mark goes when RabbitMQ has confirmed an event, and RabbitMQ can strand one that it passes on from
queue to queue by itself (docs/adr/0004). Nothing but the other end shows that.
"""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from mesh.errors import MessengerError
from mesh.mailbox.audit import Audited
from mesh.mailbox.leases import Leases

log = structlog.get_logger()

LOOKS_BACK = 3
"""Pauses that an audit covers: what one has missed, because a shard was away, is the next ones'."""


class Auditing(Protocol):
    """What audits; see `mailbox.audit.Auditor`."""

    def audit(
        self, since: datetime | None, settled: datetime, *, repair: bool
    ) -> AsyncIterator[Audited | None]:
        """One result for each chat's side."""
        ...

    async def aclose(self) -> None:
        """Closes its connections."""
        ...


class Audits:
    """Audits and repairs at times; one of many dbapi processes each time.

    Args:
        open_auditor: opens one for an audit; it is closed after that.
        leases: on shards; the first one's tells whose turn it is.
        every: seconds from one audit to the next.
        settled: what is younger may still be on its way.
    """

    def __init__(
        self, open_auditor: Callable[[], Auditing], leases: Leases, *, every: float, settled: timedelta
    ) -> None:
        self._open_auditor = open_auditor
        self._leases = leases
        self._name = secrets.token_hex(8)
        self._every = every
        self._settled = settled

    async def run(self) -> None:
        """Audits until cancelled."""
        while True:
            await asyncio.sleep(self._every * random.uniform(0.9, 1.1))  # noqa: S311  # spreads load
            try:
                # Renewed before it is over by whoever has it; another one's turn comes when that is gone.
                if await self._leases.lease(0, "audit", self._name, timedelta(seconds=self._every * 1.5)):
                    await self._audit(datetime.now(UTC) - self._settled)
            except MessengerError as error:
                log.warning("the audit was not finished", cause=error.detail)

    async def _audit(self, until: datetime) -> None:
        auditor = self._open_auditor()
        try:
            since = until - timedelta(seconds=LOOKS_BACK * self._every)
            async for looked in auditor.audit(since, until, repair=True):
                for finding in looked.findings if looked else ():
                    log.error(
                        "the audit found a fault",
                        fault=finding.fault.value,
                        user_id=finding.owner,
                        chat_id=finding.chat_id,
                        message_id=finding.message_id,
                        repaired=finding.repaired,
                    )
        finally:
            await auditor.aclose()
