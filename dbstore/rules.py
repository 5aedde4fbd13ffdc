"""What an event asks of the peer's mailbox and of the bus; pure."""

from collections.abc import Sequence
from datetime import datetime

from mesh import tracing
from mesh.mailbox.model import IncomingMessage, Place, StoredChat, StoredMessage
from mesh.wire import chat_fields, message_fields, to_datetime
from messenger.antispam.v1 import antispam_pb2
from messenger.common.v1 import types_pb2
from messenger.events.v1 import notifications_pb2, queue_pb2

Published = tuple[str, bytes]
"""A user and a serialized Notification for that user's stream."""


LATE_SECONDS = 20.0
"""Age of an event that is told late.

A device that comes back is brought what changed since half a minute before its last event
(`edge.backlog.SLACK_MS`). What is older when it is published must count as changed then.
"""


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


def judged_at(verdict: antispam_pb2.Verdict) -> datetime | None:
    """When antispam had the verdict; None where it does not say, as where it had none to give."""
    return to_datetime(verdict.judged_at) if verdict.HasField("judged_at") else None


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
        judged_at=judged_at(accepted.verdict),
    )


def sender_copy(accepted: queue_pb2.MessageAccepted) -> Published:
    """Tells the sender's own devices what was sent."""
    return _message_new(accepted.message.sender_id, accepted.message)


def receiver_copy(message: StoredMessage) -> Published:
    """Tells the receiver's devices what came."""
    return _message_new(message.owner, message_fields(message))


def chat_changed(chat: StoredChat) -> Published:
    """Tells the owner's devices how a chat stands."""
    body = notifications_pb2.ChatUpdated(chat=chat_fields(chat))
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


def changed_chats(event: queue_pb2.Event, told: Sequence[Published]) -> list[tuple[str, str]]:
    """Owner and chat id of every chat whose owner should see it anew, where this is told of the event."""
    match event.WhichOneof("body"):
        case "message_accepted" | "message_edited" | "message_removed":
            sender, *receiver = {(owner, chat_id): None for owner, chat_id, _ in _places(event)}
            return [sender, *(one for one in receiver if one[0] in {user_id for user_id, _ in told})]
        case "message_judged":
            return [(event.message_judged.receiver_id, event.message_judged.chat_id)]
        case "read_advanced":
            return [(event.read_advanced.user_id, event.read_advanced.chat_id)]
        case "chat_opened":
            return [(event.chat_opened.user_id, event.chat_opened.chat_id)]
        case _:
            return []


def owner_of(event: queue_pb2.Event) -> str:
    """In whose mailbox an event is written, "" for an unknown kind; those of others are read at most."""
    return next((owner for owner, *_ in reversed(_places(event))), "")


def chat_of(event: queue_pb2.Event) -> str:
    """The chat that an event is about, "" for an unknown kind."""
    return next((chat_id for _, chat_id, _ in _places(event)), "")


def chat_alone(event: queue_pb2.Event, owner: str, chat_id: str) -> queue_pb2.Event:
    """What is left of an event of which only this chat has not been told."""
    peer_id = next((user_id for user_id, *_ in _places(event) if user_id != owner), "")
    opened = queue_pb2.ChatOpened(
        user_id=owner, peer_id=peer_id, chat_id=chat_id, item_id=event.message_accepted.item_id
    )
    return queue_pb2.Event(accepted_at=event.accepted_at, traceparent=event.traceparent, chat_opened=opened)


def told_late(event: queue_pb2.Event, told: Sequence[Published], now: float) -> list[Place]:
    """What of the mailboxes is told so long after its change that its owner's devices may have later news.

    Args:
        event: what happened.
        told: what is told of it.
        now: Unix time, seconds.
    """
    if now - event.accepted_at.seconds < LATE_SECONDS:
        return []
    owners = {user_id for user_id, _ in told} | {owner for owner, _ in changed_chats(event, told)}
    return [place for place in _places(event) if place[0] in owners]


def _places(event: queue_pb2.Event) -> list[Place]:
    """What an event is about in both mailboxes, that of whom it comes from first."""
    match event.WhichOneof("body"):
        case "message_accepted":
            return _both_copies(event.message_accepted)
        case "message_edited":
            return _both_copies(event.message_edited)
        case "message_removed":
            removed = event.message_removed
            users = (removed.user_id, removed.peer_id)
            return [(user_id, removed.chat_id, removed.message_id) for user_id in users]
        case "message_judged":
            judged = event.message_judged
            return [(judged.receiver_id, judged.chat_id, judged.message_id)]
        case "read_advanced":
            read = event.read_advanced
            return [(user_id, read.chat_id, "") for user_id in (read.user_id, read.peer_id)]
        case "delivered_advanced":
            delivered = event.delivered_advanced
            return [(user_id, delivered.chat_id, "") for user_id in (delivered.user_id, delivered.peer_id)]
        case "chat_opened":
            return [(event.chat_opened.user_id, event.chat_opened.chat_id, "")]
        case _:
            return []


def _both_copies(text: queue_pb2.MessageAccepted | queue_pb2.MessageEdited) -> list[Place]:
    message = text.message
    users = (message.sender_id, text.receiver_id)
    return [(user_id, message.chat_id, message.message_id) for user_id in users]
