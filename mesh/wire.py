"""Between what the mailbox holds and what the protos carry."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from mesh.mailbox.model import StoredChat, StoredMessage
from messenger.common.v1 import types_pb2

_EPOCH = datetime.fromtimestamp(0, UTC)


def to_timestamp(time: datetime) -> Timestamp:
    """The protobuf form of an aware time; its own FromDatetime takes three times as long."""
    since = time - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def to_datetime(stamp: Timestamp) -> datetime:
    """The aware UTC form of a protobuf time."""
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def message_to_proto(message: StoredMessage) -> types_pb2.Message:
    """A message as its mailbox's owner may see it."""
    return types_pb2.Message(
        message_id=message.message_id,
        chat_id=message.chat_id,
        sender_id=message.sender_id,
        seq=message.seq,
        text=message.text,
        client_msg_id=message.client_msg_id or None,
        created_at=to_timestamp(message.created_at),
        edited_at=to_timestamp(message.edited_at) if message.edited_at else None,
        deleted=message.deleted or None,
    )


def chat_to_proto(chat: StoredChat) -> types_pb2.Chat:
    """A chat as its owner may see it, with the bare ids of peer and item."""
    return types_pb2.Chat(
        chat_id=chat.chat_id,
        peer=types_pb2.Peer(user_id=chat.peer_id),
        item=types_pb2.Item(item_id=chat.item_id) if chat.item_id else None,
        last_message=message_to_proto(chat.last) if chat.last else None,
        unread=chat.unread,
        seq=chat.seq,
        read_up_to=chat.read_up_to or None,
        peer_read_up_to=chat.peer_read_up_to or None,
        peer_delivered_up_to=chat.peer_delivered_up_to or None,
        blocked=chat.blocked or None,
        updated_at=to_timestamp(chat.activity or chat.touched_at),
        version=chat.version or None,
    )
