"""The rules of changing a stored message: who may, and what becomes of it. Pure.

A rule gives the very message back where nothing is to change.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from mesh.errors import FailedPrecondition, PermissionDenied
from mesh.mailbox.fold import whole_ms
from mesh.mailbox.model import ChangedChat, StoredChat, StoredMessage


def edited(message: StoredMessage, text: str, *, at: datetime) -> StoredMessage:
    """The owner's own message with another text.

    Raises:
        PermissionDenied: the peer sent it.
        FailedPrecondition: it is deleted.
    """
    if message.sender_id != message.owner:
        raise PermissionDenied("message_id: only the sender can edit", reason="NOT_SENDER")
    if message.deleted:
        raise FailedPrecondition("message_id: the message is deleted", reason="DELETED")
    if text == message.text:
        return message
    return replace(
        message,
        text=text,
        original_text=message.original_text or message.text,
        version=message.version + 1,
        edited_at=at,
        changed_at=at,
    )


def deleted(message: StoredMessage, *, for_all: bool, at: datetime) -> StoredMessage:
    """The message taken away from the owner's copy, or from both.

    What was sent stays as `original_text` on the sender's copy alone: a repeated idempotency key is told by
    it, and an event that is still unpublished needs it.

    Raises:
        PermissionDenied: the peer sent it, and it is to be deleted for all.
    """
    own = message.sender_id == message.owner
    if for_all and not own:
        raise PermissionDenied("message_id: only the sender can delete for all", reason="NOT_SENDER")
    if message.deleted and (message.deleted_for_all or not for_all):
        return message
    return replace(
        message,
        text="",
        original_text=(message.original_text or message.text) if own else "",
        version=message.version + 1,
        deleted=True,
        deleted_for_all=for_all,
        changed_at=at,
    )


def with_edit(
    copy: StoredMessage,
    *,
    text: str,
    edited_at: datetime,
    version: int,
    at: datetime,
    unchecked: bool = False,
    judged_at: datetime | None = None,
) -> StoredMessage:
    """The receiver's copy with the sender's edit in it, unless it is deleted or has seen a later one."""
    if copy.deleted or version <= copy.version:
        return copy
    return replace(
        copy,
        text=text,
        edited_at=whole_ms(edited_at),
        version=version,
        changed_at=at,
        unchecked=unchecked,
        judged_at=judged_at,
    )


def removed(copy: StoredMessage, *, version: int, at: datetime) -> StoredMessage:
    """The receiver's copy with its text taken away."""
    if copy.deleted or version <= copy.version:
        return copy
    return replace(copy, text="", version=version, deleted=True, changed_at=at)


def judged(
    copy: StoredMessage, *, version: int, spam: bool, at: datetime, judged_at: datetime | None = None
) -> StoredMessage:
    """The receiver's copy after a late verdict; a text that was checked stays, and so does any other."""
    if not copy.unchecked or copy.version != version:
        return copy
    checked = replace(copy, unchecked=False, judged_at=judged_at or at)
    return removed(checked, version=copy.version + 1, at=at) if spam else checked


def as_sent(message: StoredMessage) -> StoredMessage:
    """The message as it was before any change: what its own event tells, however late."""
    return replace(
        message,
        text=message.original_text or message.text,
        original_text="",
        version=0,
        edited_at=None,
        deleted=False,
        deleted_for_all=False,
        changed_at=None,
    )


def changed_chat(chat: StoredChat, messages: Sequence[StoredMessage], since: datetime) -> ChangedChat:
    """A chat's part of a page, from messages with the greatest seq first."""
    oldest_first = messages[::-1]
    return ChangedChat(
        chat=chat,
        messages=tuple(message for message in oldest_first if message.stored_at >= since),
        changed=tuple(message for message in oldest_first if message.stored_at < since),
    )
