"""What an event asks of the peer's mailbox and of the bus; pure."""

from collections.abc import Iterable

from messenger.antispam.v1 import antispam_pb2
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2, queue_pb2

from mesh.mailbox.model import IncomingMessage, StoredChat, StoredMessage
from mesh.wire import chat_to_proto, message_to_proto, to_datetime

Published = tuple[str, bytes]
"""A user and a serialized Notification for that user's stream."""


def is_rejected(accepted: queue_pb2.MessageAccepted) -> bool:
    """Whether antispam keeps the message from its receiver."""
    return accepted.verdict.decision == antispam_pb2.DECISION_REJECT


def incoming(accepted: queue_pb2.MessageAccepted) -> IncomingMessage:
    """The receiver's copy of a message."""
    message = accepted.message
    return IncomingMessage(
        owner=accepted.receiver_id,
        chat_id=message.chat_id,
        message_id=message.message_id,
        sender_id=message.sender_id,
        text=message.text,
        created_at=to_datetime(message.created_at),
        item_id=accepted.item_id,
    )


def sender_copy(accepted: queue_pb2.MessageAccepted) -> Published:
    """Tells the sender's own devices what was sent."""
    return _message_new(accepted.message.sender_id, accepted.message)


def receiver_copy(message: StoredMessage) -> Published:
    """Tells the receiver's devices what came."""
    return _message_new(message.owner, message_to_proto(message))


def chat_changed(chat: StoredChat) -> Published:
    """Tells the owner's devices how a chat stands."""
    body = notifications_pb2.ChatUpdated(chat=chat_to_proto(chat))
    return chat.owner, notifications_pb2.Notification(chat_updated=body).SerializeToString()


def receipt(read: queue_pb2.ReadAdvanced) -> Published:
    """Tells the peer how far the user has read."""
    body = notifications_pb2.ReceiptRead(chat_id=read.chat_id, user_id=read.user_id, up_to=read.up_to)
    return read.peer_id, notifications_pb2.Notification(receipt_read=body).SerializeToString()


def _message_new(user_id: str, message: types_pb2.Message) -> Published:
    body = notifications_pb2.MessageNew(message=message)
    return user_id, notifications_pb2.Notification(message_new=body).SerializeToString()


def changed_chats(events: Iterable[queue_pb2.Event]) -> list[tuple[str, str]]:
    """Owner and chat id of every chat whose owner should see it anew, each once."""
    keys: dict[tuple[str, str], None] = {}
    for event in events:
        match event.WhichOneof("body"):
            case "message_accepted":
                accepted = event.message_accepted
                keys[accepted.message.sender_id, accepted.message.chat_id] = None
                if not is_rejected(accepted):
                    keys[accepted.receiver_id, accepted.message.chat_id] = None
            case "read_advanced":
                keys[event.read_advanced.user_id, event.read_advanced.chat_id] = None
            case "chat_opened":
                keys[event.chat_opened.user_id, event.chat_opened.chat_id] = None
    return list(keys)
