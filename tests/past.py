"""Gives people a past: messages straight into their mailboxes, thousands in a moment."""

import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from mesh.mailbox import ids
from mesh.mailbox.model import Appended, IncomingMessage
from mesh.mailbox.mongo import MongoMailbox

FILL_BATCH = 1_000


async def fill_mailbox(
    shards: Sequence[str],
    *,
    owner: str,
    sender: str,
    texts: Sequence[str],
    ago: timedelta = timedelta(),
    read: bool = False,
) -> str:
    """Gives a user a chat with a past, straight into the mailbox. Returns its chat_id.

    Args:
        shards: MongoDB URIs, in shard order.
        owner: whose mailbox.
        sender: who wrote them, a second apart.
        texts: of the messages, oldest first.
        ago: when the last one was written.
        read: whether the owner has read them all.
    """
    messages = _said(owner, sender, texts, ago)
    async with _opened(shards) as mailbox:
        await mailbox.open_chat(sender, owner)
        await _append(mailbox, messages)
        if read:
            await mailbox.mark_read(owner, messages[-1].chat_id, messages[-1].message_id)
    return messages[-1].chat_id


async def fill_chats(
    shards: Sequence[str], *, owner: str, senders: Iterable[str], texts: Sequence[str]
) -> None:
    """Gives a user many chats, in each of them the same texts; that is quicker than as many in one chat."""
    chats = [_said(owner, sender, texts, timedelta()) for sender in senders]
    async with _opened(shards) as mailbox:
        await _append(mailbox, [*chain.from_iterable(zip(*chats, strict=True))])


def _said(owner: str, sender: str, texts: Sequence[str], ago: timedelta) -> list[IncomingMessage]:
    chat_id, message_id = ids.chat_id(owner, sender), ""
    started = datetime.now(UTC) - ago - timedelta(seconds=len(texts))
    messages = []
    for number, text in enumerate(texts):
        at = started + timedelta(seconds=number)
        message_id = ids.next_message_id(int(at.timestamp() * 1e9), message_id, random.getrandbits)
        messages.append(
            IncomingMessage(
                owner=owner,
                chat_id=chat_id,
                message_id=message_id,
                sender_id=sender,
                text=text,
                created_at=at,
            )
        )
    return messages


async def _append(mailbox: MongoMailbox, messages: Sequence[IncomingMessage]) -> None:
    for start in range(0, len(messages), FILL_BATCH):
        for appended in await mailbox.append_incoming(messages[start : start + FILL_BATCH]):
            assert isinstance(appended, Appended), appended


@contextlib.asynccontextmanager
async def _opened(shards: Sequence[str]) -> AsyncIterator[MongoMailbox]:
    mailbox = MongoMailbox(shards)
    try:
        yield mailbox
    finally:
        await mailbox.aclose()
