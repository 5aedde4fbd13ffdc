"""When a process may serve mailboxes: the schema is there on every shard that answers, and one answers."""

import structlog

from mesh.errors import FailedPrecondition, Unavailable
from mesh.mailbox.store import MailboxStore

log = structlog.get_logger()


class MailboxReadiness:
    """A readiness check that also lays the indexes, until they are on every shard.

    A shard that is away does not keep the others' users waiting; it gets its indexes when it is back.
    """

    def __init__(self, store: MailboxStore) -> None:
        self._store = store
        self._complete = False

    async def __call__(self) -> None:
        """Returns when the mailboxes can be served.

        Raises:
            Unavailable: no shard answers.
            SystemExit: status 1; a shard was written by a newer program, which waiting does not change.
        """
        if not self._complete:
            try:
                await self._store.ensure_schema()
                self._complete = True
            except FailedPrecondition as error:
                log.error("refuses to start", reason=error.reason, detail=error.detail)
                raise SystemExit(1) from None
            except Unavailable:
                pass  # some shards are away; `ping` says whether any is not
        if not any(await self._store.ping()):
            raise Unavailable("No MongoDB shard answers.")
