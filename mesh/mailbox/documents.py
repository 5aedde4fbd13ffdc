"""How messages and chats lie in MongoDB, and the fold as an update whose operators only move forward. Pure.

`_id` is `owner:chat_id:seq` for messages and `owner:chat_id` for chats. User ids hold no colon, and ";"
follows ":" in ASCII, so what begins with `prefix:` is the range from there to `prefix;`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mesh.mailbox.fold import Head, LogEntry
from mesh.mailbox.model import (
    OutboxEntry,
    OutboxKind,
    OutboxRef,
    StoredChat,
    StoredMessage,
    message_ref,
)

Document = dict[str, Any]

MESSAGES = "messages"
CHATS = "chats"

# Present only where they say something.
_OPTIONAL = ("item_id", "client_msg_id", "edited_at", "deleted", "original_text", "version")
# What `chats.last` leaves out, since the chat says it already.
_OF_CHAT = ("owner", "chat_id", "peer_id", "item_id")


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


def read_message(document: Document) -> StoredMessage:
    """The message of a log's document."""
    return StoredMessage(
        owner=document["owner"],
        chat_id=document["chat_id"],
        message_id=document["message_id"],
        seq=document["seq"],
        sender_id=document["sender_id"],
        peer_id=document["peer_id"],
        text=document["text"],
        created_at=document["created_at"],
        stored_at=document["stored_at"],
        **{name: document[name] for name in _OPTIONAL if name in document},
    )


def read_head(document: Document | None) -> Head:
    """The head that a log's last document, or a chat, tells; the empty log's for None."""
    if document is None:
        return Head()
    return Head(seq=document["seq"], incoming=document["incoming"], top=document["top"])


def read_entry(document: Document) -> LogEntry:
    """The log's entry."""
    return LogEntry(message=read_message(document), head=read_head(document))


def read_chat(document: Document) -> StoredChat:
    """The chat of its document."""
    shared = {name: document[name] for name in _OF_CHAT if name in document}
    last = document.get("last")
    optional = (
        "activity", "read_up_to", "read_incoming", "peer_read_up_to", "peer_delivered_up_to",
    )  # fmt: skip
    return StoredChat(
        **shared,
        seq=document["seq"],
        incoming=document["incoming"],
        top=document["top"],
        last=read_message(last | shared) if last else None,
        touched_at=document["touched_at"],
        **{name: document[name] for name in optional if name in document},
    )


def new_chat(owner: str, chat_id: str, peer_id: str, item_id: str) -> Document:
    """What a chat is created with and never changes."""
    document = {"owner": owner, "chat_id": chat_id, "peer_id": peer_id}
    return document | ({"item_id": item_id} if item_id else {})


EMPTY_LOG: Document = {"seq": 0, "incoming": 0, "top": ""}


def fold_update(entries: Sequence[LogEntry], at: datetime) -> Document:
    """The upsert that folds entries of one chat into its document: `fold.fold` in MongoDB's words."""
    message = entries[0].message
    return {
        "$setOnInsert": new_chat(message.owner, message.chat_id, message.peer_id, message.item_id),
        "$max": head_fields(max((entry.head for entry in entries), key=lambda head: head.seq))
        | {
            "last": max(
                (_last(entry.message) for entry in entries), key=lambda last: tuple(last.values())[:2]
            ),
            "activity": max(entry.message.created_at for entry in entries),
            "touched_at": at,
        },
    }


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
        if name not in _OF_CHAT and name != "version" and (value := getattr(message, name))
    }


def message_entry(document: Document) -> OutboxEntry:
    """The outbox entry of a marked message."""
    message = read_message(document)
    return OutboxEntry(
        ref=message_ref(message),
        at=document["outbox"]["at"],
        peer_id=message.peer_id,
        item_id=message.item_id,
        message=message,
    )


def chat_entry(document: Document, kind: OutboxKind) -> OutboxEntry:
    """The outbox entry of a chat's mark, read pointer or opening."""
    mark = document[MARKS[kind]]
    ref = OutboxRef(
        kind=kind,
        owner=document["owner"],
        chat_id=document["chat_id"],
        up_to=mark.get("up_to", ""),
    )
    return OutboxEntry(
        ref=ref,
        at=mark["at"],
        peer_id=document["peer_id"],
        item_id=document.get("item_id", ""),
    )


# The field of a chat that holds each kind of mark.
MARKS = {OutboxKind.READ: "outbox_read", OutboxKind.OPENED: "outbox_opened"}
