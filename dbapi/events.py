"""From what the outbox holds to what the queue carries; pure."""

from mesh.amqp import CHECKED, MESSAGES
from mesh.mailbox.model import OutboxEntry, OutboxKind, StoredMessage, message_ref
from mesh.wire import message_fields, timestamp_fields
from messenger.events.v1 import queue_pb2


def entry_of(message: StoredMessage, traceparent: str = "") -> OutboxEntry:
    """The outbox entry that an own message was stored with."""
    return OutboxEntry(
        ref=message_ref(message),
        at=message.stored_at,
        peer_id=message.peer_id,
        item_id=message.item_id,
        message=message,
        traceparent=traceparent,
    )


def event_of(entry: OutboxEntry, *, again: bool = False) -> queue_pb2.Event:
    """The event that tells the other side; it may have been published before where that is so."""
    event = _event_of(entry)
    event.traceparent = entry.traceparent
    if again and entry.ref.kind is OutboxKind.MESSAGE:
        event.message_accepted.again = True
    return event


def _event_of(entry: OutboxEntry) -> queue_pb2.Event:
    ref, accepted_at = entry.ref, timestamp_fields(entry.at)
    match ref.kind:
        case OutboxKind.MESSAGE:
            assert entry.message is not None  # noqa: S101  # the store promises it for this kind
            accepted = queue_pb2.MessageAccepted(
                message=message_fields(entry.message), receiver_id=entry.peer_id, item_id=entry.item_id
            )
            return queue_pb2.Event(accepted_at=accepted_at, message_accepted=accepted)
        case OutboxKind.READ:
            read = queue_pb2.ReadAdvanced(
                user_id=ref.owner, peer_id=entry.peer_id, chat_id=ref.chat_id, up_to=ref.up_to
            )
            return queue_pb2.Event(accepted_at=accepted_at, read_advanced=read)
        case OutboxKind.OPENED | OutboxKind.BLOCKED:
            opened = queue_pb2.ChatOpened(
                user_id=ref.owner, peer_id=entry.peer_id, chat_id=ref.chat_id, item_id=entry.item_id
            )
            return queue_pb2.Event(accepted_at=accepted_at, chat_opened=opened)
        case OutboxKind.DELIVERED:
            delivered = queue_pb2.DeliveredAdvanced(
                user_id=ref.owner, peer_id=entry.peer_id, chat_id=ref.chat_id, up_to=ref.up_to
            )
            return queue_pb2.Event(accepted_at=accepted_at, delivered_advanced=delivered)
        case OutboxKind.CHANGED:
            return _change_of(entry)


def _change_of(entry: OutboxEntry) -> queue_pb2.Event:
    message = entry.message
    assert message is not None  # noqa: S101  # the store promises it for this kind
    if message.deleted:
        removed = queue_pb2.MessageRemoved(
            user_id=message.owner,
            peer_id=entry.peer_id,
            chat_id=message.chat_id,
            message_id=message.message_id,
            for_all=entry.for_all,
            version=message.version,
        )
        return queue_pb2.Event(accepted_at=timestamp_fields(entry.at), message_removed=removed)
    edited = queue_pb2.MessageEdited(
        message=message_fields(message), receiver_id=entry.peer_id, version=message.version
    )
    return queue_pb2.Event(accepted_at=timestamp_fields(entry.at), message_edited=edited)


def exchange_of(entry: OutboxEntry) -> str:
    """Texts go by antispam; the rest has nothing to be checked."""
    has_text = entry.message is not None and not entry.message.deleted
    return MESSAGES if has_text else CHECKED
