"""What can be wrong with a chat's two sides, told from their documents. Pure; `audit` looks and mends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial

from mesh.mailbox.fold import Head, LogEntry
from mesh.mailbox.model import StoredChat, StoredMessage


class Fault(StrEnum):
    """What can be wrong. All but the last four are repaired."""

    NO_COPY = "the receiver has no copy"
    NO_CHANGE = "the receiver's copy lacks a change"
    FOLD = "the chat is not the fold of its log"
    UNREAD = "the chat counts wrongly what is unread"
    HOLE = "seq has a hole or repeats"
    HEAD = "a message tells a wrong count or greatest id"
    NO_ORIGINAL = "the sender has no such message"
    CONTENT = "the two copies differ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        fault: what.
        owner: in whose mailbox.
        chat_id: in which chat.
        message_id: which message; empty where it is about the chat.
        detail: expected and found.
        repaired: it was started on its ordinary way again.
    """

    fault: Fault
    owner: str
    chat_id: str
    message_id: str = ""
    detail: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a chat: its log in the order of seq, and its fold; None where there is none.

    The fold was read before the log: beside running services the log may have gone on.

    Attributes:
        marked: ids of own messages with an event that has not been confirmed yet, of sending or of a change.
    """

    owner: str
    log: tuple[LogEntry, ...]
    chat: StoredChat | None
    marked: frozenset[str] = frozenset()


def differences(one: Side, other: Side, chat_id: str, settled: datetime) -> Iterator[Finding]:
    """Everything that is wrong with a chat's two sides.

    Args:
        one: a side.
        other: the other one.
        chat_id: the chat.
        settled: what was stored or changed later may still be on its way.
    """
    for side, peer in ((one, other), (other, one)):
        broken = list(_of_log(side, chat_id))
        yield from broken
        if not any(finding.fault is Fault.HOLE for finding in broken):  # everything behind it is shifted
            yield from _of_chat(side, chat_id, settled)
        yield from _of_copies(side, peer, chat_id, settled)


def is_folded(side: Side, settled: datetime) -> bool:
    """Whether a chat tells what its log does."""
    return bool(not side.log or (side.chat and not _of_fold(side.chat, side.log, settled)))


def _of_log(side: Side, chat_id: str) -> Iterator[Finding]:
    head = Head()
    for place, entry in enumerate(side.log, start=1):
        message = entry.message
        found = partial(Finding, owner=side.owner, chat_id=chat_id, message_id=message.message_id)
        if message.seq != place:
            yield found(fault=Fault.HOLE, detail=f"seq {message.seq} where {place} belongs")
            return
        head = Head(
            seq=place, incoming=head.incoming + _is_incoming(message), top=max(head.top, message.message_id)
        )
        if entry.head != head:
            yield found(fault=Fault.HEAD, detail=f"{entry.head} where it is {head}")


def _of_chat(side: Side, chat_id: str, settled: datetime) -> Iterator[Finding]:
    if not side.log:
        return
    found = partial(Finding, owner=side.owner, chat_id=chat_id)
    chat = side.chat
    if chat is None:
        yield found(fault=Fault.FOLD, detail="no chat")
    elif wrong := _of_fold(chat, side.log, settled):
        yield found(fault=Fault.FOLD, detail=wrong)
    elif wrong := _of_counts(chat, [entry.message for entry in side.log], settled):
        yield found(fault=Fault.UNREAD, detail=wrong)


def _of_fold(chat: StoredChat, log: Sequence[LogEntry], settled: datetime) -> str:
    """What the chat tells that its log does not; the list's place may well be later (an opening)."""
    least = sum(entry.message.stored_at <= settled for entry in log)
    if not least <= chat.seq <= len(log):
        return f"seq {chat.seq} where the log ends at {len(log)}"
    folded = log[: chat.seq]
    head = folded[-1].head if folded else Head()
    if (told := Head(seq=chat.seq, incoming=chat.incoming, top=chat.top)) != head:
        return f"{told} where the log says {head}"
    last = max((entry.message for entry in folded), key=lambda message: message.message_id, default=None)
    if last is not None and (
        chat.last is None
        or chat.last.message_id != last.message_id
        or chat.last.version not in _between(last, settled)
    ):
        shown = f"{chat.last.message_id} v{chat.last.version}" if chat.last else "nothing"
        return f"shows {shown} as the last where the log has {last.message_id} v{last.version}"
    return ""


def _between(message: StoredMessage, settled: datetime) -> range:
    """The versions that a chat may show of a message: its own, and those before while that is young."""
    young = message.changed_at is not None and message.changed_at > settled
    return range(0 if young else message.version, message.version + 1)


def _of_counts(chat: StoredChat, log: Sequence[StoredMessage], settled: datetime) -> str:
    """Whether what counts as read and as deleted is what the log says for this pointer."""
    incoming = [message for message in log if _is_incoming(message)]
    read = sum(one.seq <= chat.read_seq and one.message_id <= chat.read_up_to for one in incoming)
    if chat.read_incoming != read:
        return f"{chat.read_incoming} read where the log says {read}"
    gone = [
        one
        for one in incoming
        if one.deleted and (one.message_id > chat.read_up_to or one.seq > chat.read_seq)
    ]
    least = sum(one.changed_at is not None and one.changed_at <= settled for one in gone)
    if not least <= chat.gone <= len(gone):
        return f"{chat.gone} deleted of the unread where the log says {len(gone)}"
    return ""


def _of_copies(side: Side, peer: Side, chat_id: str, settled: datetime) -> Iterator[Finding]:
    copies = {entry.message.message_id: entry.message for entry in peer.log}
    for message in (entry.message for entry in side.log):
        copy = copies.get(message.message_id)
        found = partial(Finding, chat_id=chat_id, message_id=message.message_id)
        if _is_incoming(message):
            if copy is None:
                yield found(fault=Fault.NO_ORIGINAL, owner=side.owner)
        elif message.rejected:
            continue
        elif copy is None:
            if message.message_id not in side.marked and message.stored_at <= settled:
                yield found(fault=Fault.NO_COPY, owner=peer.owner)
        elif detail := _differ(message, copy):
            yield found(fault=Fault.CONTENT, owner=peer.owner, detail=detail)
        elif message.message_id not in side.marked and (detail := _lacks(message, copy, settled)):
            yield found(fault=Fault.NO_CHANGE, owner=peer.owner, detail=detail)


def _differ(sent: StoredMessage, copy: StoredMessage) -> str:
    """What differs between two copies of one version; a deletion may be one side's own."""
    names = ["sender_id", "created_at"]
    if (sent.version, sent.deleted) == (copy.version, copy.deleted):
        names.append("text")
    different = [name for name in names if getattr(sent, name) != getattr(copy, name)]
    return f"differ in {', '.join(different)}" if different else ""


def _lacks(sent: StoredMessage, copy: StoredMessage, settled: datetime) -> str:
    """Which change of the sender's did not come to the receiver's copy.

    Of a message that its sender has deleted alone nobody knows any more how it read before.
    """
    if copy.deleted or copy.version >= sent.version or (sent.changed_at and sent.changed_at > settled):
        return ""
    if sent.deleted_for_all:
        return "was deleted for all"
    if sent.deleted or sent.edit_rejected == sent.version:
        return ""
    return f"is version {copy.version} and not {sent.version}"


def _is_incoming(message: StoredMessage) -> bool:
    return message.sender_id != message.owner
