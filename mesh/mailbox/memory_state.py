"""What the parts of the store in memory share: logs, chats, blocks and marks, and which shards are down."""

import time
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from mesh.errors import FailedPrecondition, MessengerError, NotFound, Unavailable
from mesh.mailbox import blocks
from mesh.mailbox.buckets import BucketMap
from mesh.mailbox.fold import LogEntry, from_ns
from mesh.mailbox.model import (
    IncomingMessage,
    NewMessage,
    OutboxEntry,
    OutboxRef,
    StoredChat,
    StoredMessage,
)

Key = tuple[str, str]
Given = ParamSpec("Given")
Result = TypeVar("Result")


class MemoryState:
    """Mailboxes in memory.

    Args:
        shards: how many there seem to be.
        clock: nanoseconds since 1970.

    A shard whose index is in `down` does not answer.
    """

    def __init__(self, shards: int = 1, clock: Callable[[], int] = time.time_ns) -> None:
        self.down: set[int] = set()
        self._buckets = BucketMap.even(shards)
        self._shards = shards
        self._clock = clock
        self._logs: dict[Key, list[LogEntry]] = defaultdict(list)
        self._chats: dict[Key, StoredChat] = {}
        self._blocks: set[tuple[str, str]] = set()  # who has blocked whom
        self._outbox: dict[OutboxRef, OutboxEntry] = {}
        self._leases: dict[tuple[int, str], tuple[str, datetime]] = {}

    @property
    def shard_count(self) -> int:
        """See `store.Outbox`."""
        return self._shards

    def shard_of(self, owner: str) -> int:
        """See `store.MailboxStore`."""
        return self._buckets.node_of(owner)

    def _messages(self, owner: str, chat_id: str) -> list[StoredMessage]:
        return [entry.message for entry in self._logs[owner, chat_id]]

    def _chat(self, owner: str, chat_id: str) -> StoredChat:
        self._reach(owner)
        if (owner, chat_id) not in self._chats:
            raise NotFound("chat_id: no such chat in your mailbox")
        return self._chats[owner, chat_id]

    def _keep(self, chat: StoredChat) -> StoredChat:
        """The chat as it is kept: with the flags and the count that blocks and log say."""
        unread = [
            one
            for one in self._messages(chat.owner, chat.chat_id)
            if one.message_id > chat.read_up_to or one.seq > chat.read_seq
        ]
        chat = replace(
            chat,
            version=chat.version + 1,
            blocked=(chat.owner, chat.peer_id) in self._blocks,
            blocked_by_peer=(chat.peer_id, chat.owner) in self._blocks,
            gone=sum(one.deleted and one.sender_id != chat.owner for one in unread),
        )
        self._chats[key_of(chat)] = chat
        return chat

    def _mark(self, ref: OutboxRef, chat: StoredChat, message: StoredMessage | None = None) -> None:
        at = message.stored_at if message else self._now()
        self._outbox[ref] = OutboxEntry(
            ref=ref, at=at, peer_id=chat.peer_id, item_id=chat.item_id, message=message
        )

    def _mark_anew(self, ref: OutboxRef, chat: StoredChat) -> None:
        """Marks a chat in the place of what was marked of that kind before."""
        self._unmark(lambda entry: entry.ref.kind is ref.kind and key_of(entry.ref) == key_of(ref))
        self._mark(ref, chat)

    def _unmark(self, matches: Callable[[OutboxEntry], bool]) -> None:
        for ref in [ref for ref, entry in self._outbox.items() if matches(entry)]:
            del self._outbox[ref]

    def _refusal(self, owner: str, peer_id: str) -> FailedPrecondition | None:
        found: list[blocks.Block] = []
        if (owner, peer_id) in self._blocks:
            found.append((owner, "out", peer_id))
        if (peer_id, owner) in self._blocks:
            found.append((owner, "in", peer_id))
        return blocks.refusal(found, owner, peer_id)

    def _reach(self, owner: str) -> None:
        if self.shard_of(owner) in self.down:
            raise unavailable()

    def _now(self) -> datetime:
        return from_ns(self._clock())


def key_of(thing: NewMessage | IncomingMessage | StoredMessage | StoredChat | OutboxRef) -> Key:
    """Owner and chat_id."""
    return thing.owner, thing.chat_id


def unavailable() -> Unavailable:
    """What a shard that is down answers."""
    return Unavailable("The mailbox does not answer; try again.")


def outcome_of(
    call: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result | MessengerError:
    """The call's result, or its error as one."""
    try:
        return call(*args, **kwargs)
    except MessengerError as error:
        return error
