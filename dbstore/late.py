"""Messages that antispam did not judge in time: sends them after it, and takes effect of what it says then.

The first verdict on a message holds: a copy that was checked is not taken back, whatever a redelivery brings.
"""

from collections.abc import Sequence

import structlog

from dbstore import rules
from dbstore.rules import Published
from mesh.amqp import LATE, Publisher
from mesh.errors import MessengerError, NotFound, Unavailable
from mesh.mailbox.model import StoredMessage
from mesh.mailbox.store import MailboxStore
from messenger.antispam.v1 import antispam_pb2
from messenger.events.v1 import queue_pb2

log = structlog.get_logger()


class LateCheck:
    """What follows when a message passed unchecked.

    Args:
        store: the mailboxes.
        publisher: to the queue `late`.
    """

    def __init__(self, store: MailboxStore, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    async def ask(self, events: Sequence[queue_pb2.Event]) -> Unavailable | None:
        """Sends events of texts that passed unchecked to antispam once more; what went wrong, if anything."""
        if not events:
            return None
        try:
            await self._publisher.publish(LATE, "", events)
        except Unavailable as error:
            return error
        return None

    async def refused_before(
        self, messages: Sequence[queue_pb2.MessageAccepted]
    ) -> list[bool | MessengerError]:
        """Whether messages that seem to pass have been rejected before, one result a message."""
        places = [(one.message.sender_id, one.message.chat_id, one.message.message_id) for one in messages]
        return await self._store.are_rejected(places) if places else []

    async def refuse(self, accepted: queue_pb2.MessageAccepted) -> list[Published]:
        """Keeps a message from its receiver, whom a copy of it may have reached unchecked."""
        message = accepted.message
        judged = queue_pb2.MessageJudged(
            message_id=message.message_id,
            chat_id=message.chat_id,
            sender_id=message.sender_id,
            receiver_id=accepted.receiver_id,
            verdict=accepted.verdict,
        )
        return [*await self.settle(judged), rules.sender_copy(accepted)]

    async def settle(self, judged: queue_pb2.MessageJudged) -> list[Published]:
        """Takes effect of a verdict; what the receiver's devices are to be told."""
        spam = judged.verdict.decision == antispam_pb2.DECISION_REJECT
        try:
            copy = await self._store.settle_unchecked(
                judged.receiver_id,
                judged.chat_id,
                judged.message_id,
                version=judged.version,
                spam=spam,
                judged_at=rules.judged_at(judged.verdict),
            )
        except NotFound:
            copy = None
        if not spam or (copy is not None and not copy.deleted):
            return []
        await self._record(judged)
        # Who lets a message pass looks for a rejection first: from here on nobody does.
        copy = copy or await self._let_in_meanwhile(judged)
        return [rules.taken_back(copy)] if copy is not None else []

    async def _let_in_meanwhile(self, judged: queue_pb2.MessageJudged) -> StoredMessage | None:
        """Takes away a copy that another verdict let in beside this one."""
        place = (judged.receiver_id, judged.chat_id, judged.message_id)
        try:
            return await self._store.apply_removal(*place, version=judged.version + 1)
        except NotFound:
            return None

    async def _record(self, judged: queue_pb2.MessageJudged) -> None:
        """Notes the rejection in the sender's mailbox; the sender is not told."""
        verdict = judged.verdict
        await self._store.record_rejection(
            judged.sender_id,
            judged.chat_id,
            judged.message_id,
            f"{verdict.checker}:{verdict.reason}",
            rules.judged_at(verdict),
        )
        log.info(
            "message rejected", message_id=judged.message_id, checker=verdict.checker, reason=verdict.reason
        )
