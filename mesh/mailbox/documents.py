"""How messages and chats lie in MongoDB, and the fold as an update whose operators only move forward. Pure.

`_id` is `owner:chat_id:seq` for messages and `owner:chat_id` for chats. User ids hold no colon, and ";"
follows ":" in ASCII, so what begins with `prefix:` is the range from there to `prefix;`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from mesh.mailbox.changes import as_sent
from mesh.mailbox.fold import Head, LogEntry
from mesh.mailbox.model import (
    OutboxEntry,
    OutboxKind,
    OutboxRef,
    StoredChat,
    StoredMessage,
    changed_entry,
    message_ref,
    tells_peer,
)

Document = dict[str, Any]

MESSAGES = "messages"
CHATS = "chats"
BLOCKS = "blocks"

# Present only where they say something.
_OPTIONAL = (
    "item_id", "client_msg_id", "version", "edited_at", "deleted", "deleted_for_all", "original_text",
    "rejected", "edit_rejected", "unchecked", "judged_at", "changed_at",
)  # fmt: skip
# What `chats.last` leaves out, since the chat says it already.
_OF_CHAT = ("owner", "chat_id", "peer_id", "item_id")
# And what it leaves out besides: its version is a field of its own, what antispam says is not folded.
_NOT_OPTIONAL_IN_LAST = (*_OF_CHAT, "version", "rejected", "edit_rejected", "unchecked", "judged_at")

_MESSAGE_TIMES, _CHAT_TIMES = (
    [field.name for field in msgspec.structs.fields(kind) if field.type in (datetime, datetime | None)]
    for kind in (StoredMessage, StoredChat)
)


def chat_key(owner: str, chat_id: str) -> str:
    """`_id` of a chat."""
    return f"{owner}:{chat_id}"


def message_key(owner: str, chat_id: str, seq: int) -> str:
    """`_id` of a message: unique by owner, chat and seq, in the order of seq."""
    return f"{owner}:{chat_id}:{seq:010d}"


def under(prefix: str) -> Document:
    """Matches every `_id` that begins with `prefix:`."""
    return {"$gt": f"{prefix}:", "$lt": f"{prefix};"}


def message_document(entry: LogEntry) -> Document:
    """The log's document; an own message is marked until the queue has confirmed its event."""
    message = entry.message
    document: Document = {
        "_id": message_key(message.owner, message.chat_id, message.seq),
        "owner": message.owner,
        "chat_id": message.chat_id,
        "message_id": message.message_id,
        "seq": message.seq,
        "incoming": entry.head.incoming,
        "top": entry.head.top,
        "sender_id": message.sender_id,
        "peer_id": message.peer_id,
        "text": message.text,
        "created_at": message.created_at,
        "stored_at": message.stored_at,
    }
    document |= {name: value for name in _OPTIONAL if (value := getattr(message, name))}
    if message.client_msg_id:
        document["outbox"] = {"at": message.stored_at}
    return document


def in_utc(document: Document, *names: str) -> Document:
    """The document itself, its times of these names in UTC: they are read without their zone.

    The client would take longer to give each its zone than to read the whole rest of a document.
    """
    for name in names:
        if time := document.get(name):
            document[name] = time.replace(tzinfo=UTC)
    return document


def read_message(document: Document) -> StoredMessage:
    """The message of a log's document."""
    message: StoredMessage = msgspec.convert(in_utc(document, *_MESSAGE_TIMES), StoredMessage)
    return message


def read_head(document: Document | None) -> Head:
    """The head that a log's last document, or a chat, tells; the empty log's for None."""
    if document is None:
        return Head()
    return Head(seq=document["seq"], incoming=document["incoming"], top=document["top"])


def read_entry(document: Document) -> LogEntry:
    """The log's entry."""
    return LogEntry(message=read_message(document), head=read_head(document))


def read_chat(document: Document) -> StoredChat:
    """The chat of its document, which is completed by it."""
    if last := document.get("last"):
        in_utc(last, *_MESSAGE_TIMES)
        for name in _OF_CHAT:
            if name in document:
                last[name] = document[name]
    chat: StoredChat = msgspec.convert(in_utc(document, *_CHAT_TIMES), StoredChat)
    return chat


def counted_as(chat: StoredChat) -> Document:
    """Finds the chat as long as neither a mark nor a deletion has changed what its counts rest on."""
    return {
        "_id": chat_key(chat.owner, chat.chat_id),
        "read_up_to": chat.read_up_to or None,  # None finds the absent
        "read_incoming": chat.read_incoming or {"$in": [None, 0]},
        "deletions": chat.deletions or None,
    }


def new_chat(owner: str, chat_id: str, peer_id: str, item_id: str) -> Document:
    """What a chat is created with and never changes."""
    document = {"owner": owner, "chat_id": chat_id, "peer_id": peer_id}
    return document | ({"item_id": item_id} if item_id else {})


EMPTY_LOG: Document = {"seq": 0, "incoming": 0, "top": ""}


def fold_update(entries: Sequence[LogEntry], at: datetime) -> Document:
    """The upsert that folds entries of one chat into its document: `fold.fold` in MongoDB's words."""
    messages = [entry.message for entry in entries]
    one = messages[0]
    forward: Document = {
        "last": max((_last(message) for message in messages), key=lambda last: tuple(last.values())[:2]),
        "activity": max(message.created_at for message in messages),
        "touched_at": at,
    }
    if changes := [message.changed_at for message in messages if message.changed_at]:
        forward["changed_at"] = max(changes)
    return {
        "$setOnInsert": new_chat(one.owner, one.chat_id, one.peer_id, one.item_id),
        "$max": head_fields(max((entry.head for entry in entries), key=lambda head: head.seq)) | forward,
        **NEXT_VERSION,
    }


# In every update of a chat that its owner can see: of two looks at it, it tells which is the later one.
NEXT_VERSION: Document = {"$inc": {"version": 1}}


def head_fields(head: Head) -> Document:
    """A head as fields of a chat. Each grows with the log, so `$max` on each gives the later head."""
    return {"seq": head.seq, "incoming": head.incoming, "top": head.top}


def _last(message: StoredMessage) -> Document:
    """The last message within the chat. Documents compare field by field: id decides, then version."""
    return {
        "message_id": message.message_id,
        "version": message.version,
        "seq": message.seq,
        "sender_id": message.sender_id,
        "text": message.text,
        "created_at": message.created_at,
        "stored_at": message.stored_at,
    } | {
        name: value
        for name in _OPTIONAL
        if name not in _NOT_OPTIONAL_IN_LAST and (value := getattr(message, name))
    }


def message_entry(document: Document) -> OutboxEntry:
    """The outbox entry of a marked message: as it was sent, for what came later has marks of its own."""
    message = as_sent(read_message(document))
    return OutboxEntry(
        ref=message_ref(message),
        at=in_utc(document["outbox"], "at")["at"],
        peer_id=message.peer_id,
        item_id=message.item_id,
        message=message,
    )


def change_update(message: StoredMessage, mark: Document) -> Document:
    """Writes what the rules of `changes` change about a message, with an outbox mark or {}."""
    names = (
        "edited_at", "deleted", "deleted_for_all", "original_text", "changed_at", "unchecked", "judged_at",
    )  # fmt: skip
    fields = {name: value for name in names if (value := getattr(message, name))}
    version = {"version": message.version} if message.version else {}
    update: Document = {"$set": {"text": message.text} | version | fields | mark}
    over = [EDIT_MARK] if message.deleted_for_all else []  # nobody needs the text any more
    over += [name for name in ("unchecked", "judged_at") if not getattr(message, name)]
    return update | ({"$unset": dict.fromkeys(over, "")} if over else {})


def edit_mark(message: StoredMessage) -> Document:
    """Promises to tell of an edit, with all that it tells: a deletion may empty the message before."""
    mark = {
        "at": message.changed_at,
        "version": message.version,
        "text": message.text,
        "edited_at": message.edited_at,
    }
    return {EDIT_MARK: mark}


def removal_mark(message: StoredMessage) -> Document:
    """Promises to tell of a deletion."""
    mark = {"at": message.changed_at, "version": message.version, "for_all": tells_peer(message)}
    return {REMOVAL_MARK: mark}


def change_entry(document: Document, mark: str) -> OutboxEntry:
    """The outbox entry of a changed message's mark."""
    told = in_utc(document[mark], "at", "edited_at")
    message = replace(read_message(document), version=told["version"], changed_at=told["at"])
    if mark == EDIT_MARK:
        edit = replace(message, text=told["text"], edited_at=told["edited_at"], deleted=False)
        return changed_entry(edit)
    return changed_entry(message, for_all=told["for_all"])


def chat_entry(document: Document, kind: OutboxKind) -> OutboxEntry:
    """The outbox entry of a chat's mark: a pointer, the opening, or its blocked flag."""
    mark = in_utc(document[MARKS[kind]], "at")
    ref = OutboxRef(
        kind=kind,
        owner=document["owner"],
        chat_id=document["chat_id"],
        seq=mark.get("seq", 0),
        up_to=mark.get("up_to", ""),
    )
    return OutboxEntry(
        ref=ref,
        at=mark["at"],
        peer_id=document["peer_id"],
        item_id=document.get("item_id", ""),
    )


# For an operator who asks when: of a message, when the queue first confirmed its event; of a chat, when its
# owner's pointers last moved.
QUEUED_AT, DELIVERED_AT, READ_AT = "queued_at", "delivered_at", "read_at"

# The field of a chat that holds each kind of mark.
MARKS = {
    OutboxKind.READ: "outbox_read",
    OutboxKind.OPENED: "outbox_opened",
    OutboxKind.DELIVERED: "outbox_delivered",
    OutboxKind.BLOCKED: "outbox_blocked",
}

# The fields of a message that hold marks of its changes, each confirmed by itself: a deletion for the owner
# alone must not swallow the edit before it, which the peer is to see.
EDIT_MARK, REMOVAL_MARK = "outbox_edit", "outbox_removal"
CHANGE_MARKS = (EDIT_MARK, REMOVAL_MARK)

# All that a message can be marked by.
MESSAGE_MARKS = ("outbox", *CHANGE_MARKS)
