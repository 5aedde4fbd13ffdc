"""When dbapi audits by itself, and what that covers; the audit itself is `test_operators_commands`'."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from dbapi.auditing import LOOKS_BACK, Audits
from mesh.errors import Unavailable
from mesh.mailbox.audit import Audited
from mesh.mailbox.memory import MemoryMailbox

EVERY, SETTLED = 0.01, timedelta(minutes=10)


class HandAuditor:
    """Notes what it is asked for; shards may be away."""

    def __init__(self) -> None:
        self.asked: list[tuple[datetime, datetime]] = []
        self.away = False
        self.closed = 0

    async def audit(
        self, since: datetime | None, settled: datetime, *, repair: bool
    ) -> AsyncIterator[Audited | None]:
        assert repair
        assert since is not None
        self.asked.append((since, settled))
        yield None
        if self.away:
            raise Unavailable("a shard is away")
        yield Audited(messages=0, findings=())

    async def aclose(self) -> None:
        self.closed += 1


def audits(auditor: HandAuditor, store: MemoryMailbox) -> Audits:
    """Audits of one dbapi process."""
    return Audits(lambda: auditor, store, every=EVERY, settled=SETTLED)


async def until(condition: Callable[[], object]) -> None:
    """Waits until something holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # it has no event of its own
            await asyncio.sleep(0.001)


async def test_an_audit_covers_what_earlier_ones_may_have_missed() -> None:
    """It looks back over several pauses, leaves out what may be on its way, and closes its connections."""
    auditor = HandAuditor()
    running = asyncio.create_task(audits(auditor, MemoryMailbox()).run())
    await until(lambda: auditor.closed >= 2)
    running.cancel()
    for since, settled in auditor.asked:
        assert settled - since == timedelta(seconds=LOOKS_BACK * EVERY)
        assert datetime.now(UTC) - settled >= SETTLED


async def test_a_shard_that_is_away_ends_one_audit_alone() -> None:
    """The next one comes all the same."""
    auditor = HandAuditor()
    auditor.away = True
    running = asyncio.create_task(audits(auditor, MemoryMailbox()).run())
    await until(lambda: auditor.closed >= 2)
    assert not running.done()
    running.cancel()


class Watched(MemoryMailbox):
    """A store that counts who asks for leases."""

    tries = 0

    async def lease(self, shard: int, work: str, holder: str, length: timedelta) -> bool:
        self.tries += 1
        return await super().lease(shard, work, holder, length)


async def test_one_process_audits() -> None:
    """Where another dbapi process has its turn none is taken beside it; when that is over, it is."""
    auditor, store = HandAuditor(), Watched()
    await store.lease(0, "audit", "another", timedelta(hours=1))
    running = asyncio.create_task(audits(auditor, store).run())
    await until(lambda: store.tries > 3)
    assert auditor.asked == []
    await store.lease(0, "audit", "another", timedelta(0))
    await until(lambda: auditor.asked)
    running.cancel()
