"""The mailbox store on MongoDB shards, put together; each part has its own module. Here is its life."""

import asyncio

from mesh.errors import FailedPrecondition, MessengerError, Unavailable
from mesh.mailbox import schema
from mesh.mailbox.blocking import MongoBlocks
from mesh.mailbox.changing import MongoChanger
from mesh.mailbox.leases import MongoLeases
from mesh.mailbox.outbox import MongoOutbox
from mesh.mailbox.reading import MongoReader
from mesh.mailbox.searching import MongoSearcher
from mesh.mailbox.writing import MongoWriter


class MongoMailbox(
    MongoReader, MongoSearcher, MongoWriter, MongoOutbox, MongoChanger, MongoBlocks, MongoLeases
):
    """`store.MailboxStore` on MongoDB; `sharded.Sharded` describes the arguments."""

    async def ensure_schema(self) -> None:
        """See `store.MailboxStore`."""
        results = await asyncio.gather(
            *(schema.ensure_schema(shard) for shard in self._shards), return_exceptions=True
        )
        missed = []
        for index, result in enumerate(results):
            if isinstance(result, MessengerError) and not isinstance(result, FailedPrecondition):
                missed.append(str(index))
            elif isinstance(result, BaseException):
                raise result
        if missed:
            raise Unavailable(
                f"Shards {', '.join(missed)} do not answer and may lack indexes: start them, then try again."
            )

    async def ping(self) -> tuple[bool, ...]:
        """See `store.MailboxStore`."""
        return tuple(await asyncio.gather(*(shard.ping() for shard in self._shards)))

    async def aclose(self) -> None:
        """See `store.MailboxStore`."""
        await asyncio.gather(*(shard.aclose() for shard in self._shards))
