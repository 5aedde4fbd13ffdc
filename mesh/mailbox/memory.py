"""The mailbox store in memory: for tests of services. The contract suite holds it to the same promises."""

from collections.abc import Sequence
from datetime import timedelta

from mesh.mailbox.memory_changing import MemoryBlocks, MemoryChanger
from mesh.mailbox.memory_reading import MemoryReader
from mesh.mailbox.memory_state import unavailable
from mesh.mailbox.memory_writing import MemoryWriter
from mesh.mailbox.model import OutboxEntry, OutboxKind, OutboxRef


class MemoryMailbox(MemoryReader, MemoryWriter, MemoryChanger, MemoryBlocks):
    """`store.MailboxStore` in memory; `memory_state.MemoryState` describes the arguments."""

    async def due(self, shard: int, older_than: timedelta, limit: int) -> list[OutboxEntry]:
        """See `store.Outbox`."""
        if shard in self.down:
            raise unavailable()
        until = self._now() - older_than
        entries = [
            entry
            for entry in self._outbox.values()
            if self.shard_of(entry.ref.owner) == shard and entry.at <= until
        ]
        entries.sort(key=lambda entry: entry.at)
        return [entry for kind in OutboxKind for entry in [e for e in entries if e.ref.kind is kind][:limit]]

    async def confirm(self, refs: Sequence[OutboxRef]) -> None:
        """See `store.Outbox`."""
        for ref in refs:
            if self.shard_of(ref.owner) not in self.down:
                self._outbox.pop(ref, None)

    async def lease(self, shard: int, work: str, holder: str, length: timedelta) -> bool:
        """See `leases.Leases`."""
        if shard in self.down:
            raise unavailable()
        now = self._now()
        other, until = self._leases.get((shard, work), (holder, now))
        if other != holder and until > now:
            return False
        self._leases[shard, work] = holder, now + length
        return True

    async def ensure_schema(self) -> None:
        """See `store.MailboxStore`."""
        if self.down:
            raise unavailable()

    async def ping(self) -> tuple[bool, ...]:
        """See `store.MailboxStore`."""
        return tuple(shard not in self.down for shard in range(self._shards))

    async def aclose(self) -> None:
        """See `store.MailboxStore`."""
