"""What a mailbox store promises to the services; the contract suite in tests/mailbox holds each one to it.

Every operation is bounded in time and fails with a MessengerError: Unavailable where the owner's shard does
not answer, DeadlineExceeded where the caller's time is over. A failed write may still have happened; the same
call again finds that out and changes nothing twice. Users of other shards never notice.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from mesh.errors import MessengerError
from mesh.mailbox.model import (
    Appended,
    BlockedPage,
    Changed,
    ChangePage,
    ChatPage,
    FoundPage,
    IncomingMessage,
    MessagePage,
    Moved,
    NewMessage,
    Opened,
    OutboxEntry,
    OutboxRef,
    Place,
    StoredChat,
    StoredMessage,
)

# What a page of changes holds at most.
CHATS_A_PAGE = 20
MESSAGES_A_PAGE = 200


class MailboxReader(Protocol):
    """Reading one's own mailbox. A caller reads at least what it was told is stored."""

    async def get_chats(self, keys: Sequence[tuple[str, str]]) -> list[StoredChat | MessengerError]:
        """Chats by (owner, chat_id), one result a key, in order; NotFound for one that is not there."""
        ...

    async def list_chats(self, owner: str, cursor: str, limit: int) -> ChatPage:
        """The owner's listed chats, newest activity first; InvalidArgument for a cursor of no page."""
        ...

    async def history(
        self, owner: str, chat_id: str, *, before: str = "", after: str = "", limit: int
    ) -> MessagePage:
        """The messages next to a message_id, or the newest; in the order of their ids.

        NotFound where the chat is not in the mailbox, InvalidArgument for `before` together with `after`.
        """
        ...

    async def changes(self, owner: str, since: datetime, page_token: str) -> ChangePage:
        """Listed chats that changed since then, with the messages stored, edited or deleted since then.

        A page holds at most 20 chats and 200 messages. A chat whose messages did not fit comes again on the
        next page, with older ones. Times are those of the servers that stored: ask from some seconds
        before the gap.
        """
        ...

    async def search(
        self, owner: str, query: str, *, chat_id: str = "", cursor: str = "", limit: int
    ) -> FoundPage:
        """The owner's messages, of one chat or of all, whose text holds the query in whatever case.

        Newest first. Reads every message of the chat or mailbox, so it takes time with its length, and is
        given up as Unavailable. NotFound where the chat is not in the mailbox, InvalidArgument for a cursor
        of no page and for an empty query.
        """
        ...


class MailboxWriter(Protocol):
    """Writing. What has been returned survives the loss of any minority of a shard's members."""

    async def open_chat(self, owner: str, peer_id: str, item_id: str = "") -> Opened:
        """Lists the chat in the owner's mailbox, and leaves a hidden copy in the peer's where that is quick.

        A chat that was not listed gets an outbox mark. InvalidArgument where owner and peer are one.
        """
        ...

    async def append_own(self, messages: Sequence[NewMessage]) -> list[Appended | MessengerError]:
        """Appends each to its sender's log, with an outbox mark. One result an item, in order.

        Of one chat, items are appended in the order given, and each gets a greater message_id than
        everything in the log. The same client_msg_id again gives the first result as a duplicate, with other
        content IdempotencyConflict. NotFound where the owner never opened the chat. FailedPrecondition with
        the reason BLOCKED or BLOCKED_BY_PEER where a block had been answered before the call.
        """
        ...

    async def append_incoming(self, messages: Sequence[IncomingMessage]) -> list[Appended | MessengerError]:
        """Appends each to its receiver's log, creating and listing the chat. One result an item, in order.

        The same message_id again is a duplicate, and repairs what a crash after the first time left undone.
        """
        ...

    async def mark_read(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """Moves the owner's read pointer, never back, and marks the outbox where that changes anything.

        At the same place, too: it counts as read what has come late, below the pointer. Afterwards
        `chat.unread` counts exactly the incoming messages with a greater id than the pointer, and those that
        came after the call; deleted ones do not count. NotFound where `up_to` is no message of this copy.
        """
        ...

    async def mark_delivered(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """Moves the owner's delivery pointer, never back, and marks the outbox where it moved.

        NotFound where `up_to` is no message of this copy of the chat.
        """
        ...

    async def advance_peer_read(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """Notes in the owner's mailbox how far the peer has read; never back. NotFound without the chat.

        On a redelivery `moved` is False and `chat.peer_read_up_to` equals `up_to`.
        """
        ...

    async def advance_peer_delivered(self, owner: str, chat_id: str, up_to: str) -> Moved:
        """Notes how far the peer's mailbox and devices have received; as `advance_peer_read`."""
        ...


class MailboxChanger(Protocol):
    """Changing what is stored. A message keeps its place; each change gives it a greater version."""

    async def edit(self, owner: str, chat_id: str, message_id: str, text: str) -> Changed:
        """Gives the owner's own message another text, with an outbox mark; its present text changes nothing.

        NotFound for no message of this copy; PermissionDenied (NOT_SENDER) for the peer's;
        FailedPrecondition for a deleted one (DELETED), and where either has blocked the other.
        `entry` is None where the text was the same. What never reached the peer is told, too: to the sender's
        own devices.
        """
        ...

    async def delete(self, owner: str, chat_id: str, message_id: str, *, for_all: bool) -> Changed:
        """Empties a message of the owner's copy, and with `for_all` the peer's; marks the outbox.

        What was deleted for the owner alone can still be deleted for all. NotFound for no message of this
        copy; PermissionDenied (NOT_SENDER) where the peer's is to be deleted for all.
        """
        ...

    async def apply_edit(
        self,
        owner: str,
        chat_id: str,
        message_id: str,
        *,
        text: str,
        edited_at: datetime,
        version: int,
        unchecked: bool = False,
        judged_at: datetime | None = None,
    ) -> StoredMessage:
        """Takes the sender's edit over into the owner's copy, which it returns as it now stands.

        One that passed antispam unchecked is flagged so; `judged_at` is when it passed, where that is known.

        Only a version greater than the copy's takes effect, and none on what the owner has deleted. NotFound
        where the copy is not there, or not yet.
        """
        ...

    async def apply_removal(
        self, owner: str, chat_id: str, message_id: str, *, version: int
    ) -> StoredMessage:
        """Takes a message away from the owner's copy; as `apply_edit`. What was unread counts no more."""
        ...

    async def settle_unchecked(
        self,
        owner: str,
        chat_id: str,
        message_id: str,
        *,
        version: int,
        spam: bool,
        judged_at: datetime | None = None,
    ) -> StoredMessage:
        """Takes a late verdict on a text over into the receiver's copy, which it returns as it now stands.

        A text that passed unchecked is checked now, and the message taken away where it is spam; what was
        unread counts no more. One that had its verdict stays as it is: the first holds. So does the text of
        another version, which has a verdict of its own. NotFound where there is no copy.
        """
        ...

    async def touch(self, places: Sequence[Place]) -> list[MessengerError | None]:
        """Has `changes` since any moment before this call give these chats and messages; one result a place.

        For what is told long after it was stored: who was told of later things does not ask from so early on.
        A place that is not there is no error.
        """
        ...

    async def are_rejected(self, places: Sequence[Place]) -> list[bool | MessengerError]:
        """Whether the senders' copies note a rejection, one result a place; NotFound for no message there."""
        ...

    async def record_rejection(
        self, owner: str, chat_id: str, message_id: str, reason: str, judged_at: datetime | None = None
    ) -> None:
        """Notes on the sender's copy why the peer never got it, and since when; what came first stays.

        NotFound for no message of this copy.
        """
        ...

    async def record_rejected_edit(self, owner: str, chat_id: str, message_id: str, version: int) -> None:
        """Notes on the sender's copy that the peer never got the text of this version; the latest stays.

        NotFound for no message of this copy.
        """
        ...


class Blocks(Protocol):
    """Who takes no messages from whom. A block that was answered holds for every call that comes later."""

    async def set_blocked(self, owner: str, user_id: str, *, blocked: bool) -> list[OutboxEntry]:
        """Blocks or unblocks a person for the owner, and flags the chats of both.

        Each of the owner's chats whose flag changed gets an outbox mark. Gives those to be announced, a
        bounded number of them; a repeated call gives what is not confirmed yet.

        Unavailable where either's shard does not answer; then it may hold in part, and the same call does the
        rest. InvalidArgument for oneself.
        """
        ...

    async def list_blocked(self, owner: str, cursor: str, limit: int) -> BlockedPage:
        """Whom the owner has blocked, by id; InvalidArgument for a cursor of no page."""
        ...

    async def blocked_among(self, owner: str, user_ids: Sequence[str]) -> frozenset[str]:
        """Those of them who have blocked the owner or are blocked by the owner."""
        ...


class Outbox(Protocol):
    """Events between the write that caused them and the queue's confirm; none is lost, some come twice."""

    @property
    def shard_count(self) -> int:
        """How many shards a relay has to visit."""
        ...

    async def due(self, shard: int, older_than: timedelta, limit: int) -> list[OutboxEntry]:
        """Oldest unconfirmed entries of one shard, at most `limit` of a kind; their chats are folded anew."""
        ...

    async def confirm(self, refs: Sequence[OutboxRef]) -> None:
        """Clears marks that the queue has confirmed; what moved on or changed again meanwhile keeps its mark.

        A mark that could not be cleared stays for the relay: its shard's failure raises nothing. `queued_at`
        is now where a ref does not say it.
        """
        ...


class MailboxStore(MailboxReader, MailboxWriter, MailboxChanger, Blocks, Outbox, Protocol):
    """The whole store, and its life."""

    def shard_of(self, owner: str) -> int:
        """The index of the owner's shard; calls that are gathered by shard wait for one only."""
        ...

    async def ensure_schema(self) -> None:
        """Creates what indexes are missing.

        Raises Unavailable naming the shards that it could not reach, and FailedPrecondition where one was
        written by a newer program.
        """
        ...

    async def ping(self) -> tuple[bool, ...]:
        """Which shards answer writes, in shard order."""
        ...

    async def aclose(self) -> None:
        """Closes every connection."""
        ...
