"""Between what the mailbox holds and what the protos carry.

A message that goes into another one is given as its fields: made first, it would be copied, which takes as
long again.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.mailbox.model import StoredChat, StoredMessage

_EPOCH = datetime.fromtimestamp(0, UTC)


def to_datetime(stamp: Timestamp) -> datetime:
    """The aware UTC form of a protobuf time."""
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def timestamp_fields(time: datetime) -> Any:
    """The fields of a `Timestamp` for an aware time."""
    since = time - _EPOCH
    return {"seconds": since.days * 86_400 + since.seconds, "nanos": since.microseconds * 1000}


def message_fields(message: StoredMessage) -> Any:
    """The fields of a `Message`: what its mailbox's owner may see."""
    return {
        "message_id": message.message_id,
        "chat_id": message.chat_id,
        "sender_id": message.sender_id,
        "seq": message.seq,
        "text": message.text,
        "client_msg_id": message.client_msg_id or None,
        "created_at": timestamp_fields(message.created_at),
        "edited_at": timestamp_fields(message.edited_at) if message.edited_at else None,
        "deleted": message.deleted or None,
    }


def chat_fields(chat: StoredChat) -> Any:
    """The fields of a `Chat`: what its owner may see, with the bare ids of peer and item."""
    return {
        "chat_id": chat.chat_id,
        "peer": {"user_id": chat.peer_id},
        "item": {"item_id": chat.item_id} if chat.item_id else None,
        "last_message": message_fields(chat.last) if chat.last else None,
        "unread": chat.unread,
        "seq": chat.seq,
        "read_up_to": chat.read_up_to or None,
        "peer_read_up_to": chat.peer_read_up_to or None,
        "peer_delivered_up_to": chat.peer_delivered_up_to or None,
        "blocked": chat.blocked or None,
        "updated_at": timestamp_fields(chat.activity or chat.touched_at),
        "version": chat.version or None,
    }
