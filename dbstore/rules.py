"""What an event asks of the peer's mailbox and of the bus; pure."""

from mesh import tracing
from mesh.mailbox.model import IncomingMessage, StoredChat, StoredMessage
from mesh.wire import chat_to_proto, message_to_proto, to_datetime
from messenger.antispam.v1 import antispam_pb2
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2, queue_pb2

Published = tuple[str, bytes]
"""A user and a serialized Notification for that user's stream."""


def is_rejected(checked: queue_pb2.MessageAccepted | queue_pb2.MessageEdited) -> bool:
    """Whether antispam keeps the text from its receiver."""
    return checked.verdict.decision == antispam_pb2.DECISION_REJECT


def is_unchecked(event: queue_pb2.Event) -> bool:
    """Whether an event brings a text to its receiver that antispam has not judged."""
    match event.WhichOneof("body"):
        case "message_accepted":
            return not _has_verdict(event.message_accepted)
        case "message_edited":
            return not _has_verdict(event.message_edited)
        case _:
            return False


def _has_verdict(text: queue_pb2.MessageAccepted | queue_pb2.MessageEdited) -> bool:
    return text.verdict.decision in (antispam_pb2.DECISION_PASS, antispam_pb2.DECISION_REJECT)


def verdict_of(accepted: queue_pb2.MessageAccepted) -> str:
    """What antispam said: PASS, REJECT, or UNCHECKED."""
    decision = accepted.verdict.decision or antispam_pb2.DECISION_UNCHECKED
    return antispam_pb2.Decision.Name(decision).removeprefix("DECISION_")


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
        unchecked=not _has_verdict(accepted),
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


def message_updated(user_id: str, message: types_pb2.Message) -> Published:
    """Tells a user's devices of a message's other text."""
    body = notifications_pb2.MessageUpdated(message=message)
    return user_id, notifications_pb2.Notification(message_updated=body).SerializeToString()


def message_deleted(user_id: str, removed: queue_pb2.MessageRemoved) -> Published:
    """Tells a user's devices that a message was taken away."""
    body = notifications_pb2.MessageDeleted(chat_id=removed.chat_id, message_id=removed.message_id)
    return user_id, notifications_pb2.Notification(message_deleted=body).SerializeToString()


def taken_back(message: StoredMessage) -> Published:
    """Tells the receiver's devices that a late verdict took a message away."""
    body = notifications_pb2.MessageDeleted(
        chat_id=message.chat_id, message_id=message.message_id, reason="spam"
    )
    return message.owner, notifications_pb2.Notification(message_deleted=body).SerializeToString()


def delivery_receipt(delivered: queue_pb2.DeliveredAdvanced) -> Published:
    """Tells the peer how far the user's devices have received."""
    body = notifications_pb2.ReceiptDelivered(
        chat_id=delivered.chat_id, user_id=delivered.user_id, up_to=delivered.up_to
    )
    return delivered.peer_id, notifications_pb2.Notification(receipt_delivered=body).SerializeToString()


def _message_new(user_id: str, message: types_pb2.Message) -> Published:
    body = notifications_pb2.MessageNew(message=message)
    return user_id, notifications_pb2.Notification(message_new=body).SerializeToString()


def traced(told: list[Published], traceparent: str) -> list[Published]:
    """Puts the trace context on what is told of an event, where it is sampled."""
    if not tracing.sampled(traceparent):
        return told
    # Serialized messages that are joined are merged: https://protobuf.dev/programming-guides/encoding/#last-one-wins
    suffix = notifications_pb2.Notification(traceparent=traceparent).SerializeToString()
    return [(user_id, payload + suffix) for user_id, payload in told]


def changed_chats(event: queue_pb2.Event) -> list[tuple[str, str]]:
    """Owner and chat id of every chat whose owner should see it anew."""
    match event.WhichOneof("body"):
        case "message_accepted":
            return _both_sides(event.message_accepted)
        case "message_edited":
            return _both_sides(event.message_edited)
        case "message_removed":
            removed = event.message_removed
            mine = [(removed.user_id, removed.chat_id)]
            return [*mine, (removed.peer_id, removed.chat_id)] if removed.for_all else mine
        case "message_judged":
            return [(event.message_judged.receiver_id, event.message_judged.chat_id)]
        case "read_advanced":
            return [(event.read_advanced.user_id, event.read_advanced.chat_id)]
        case "chat_opened":
            return [(event.chat_opened.user_id, event.chat_opened.chat_id)]
        case _:
            return []


def _both_sides(
    checked: queue_pb2.MessageAccepted | queue_pb2.MessageEdited,
) -> list[tuple[str, str]]:
    chat_id = checked.message.chat_id
    sender = (checked.message.sender_id, chat_id)
    return [sender] if is_rejected(checked) else [sender, (checked.receiver_id, chat_id)]
