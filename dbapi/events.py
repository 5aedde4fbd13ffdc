"""From what the outbox holds to what the queue carries; pure."""

from messenger.events.v1 import queue_pb2

from mesh.amqp import CHECKED, MESSAGES
from mesh.mailbox.model import OutboxEntry, OutboxKind, StoredMessage, message_ref
from mesh.wire import message_to_proto, to_timestamp


def entry_of(message: StoredMessage) -> OutboxEntry:
    """The outbox entry that an own message was stored with."""
    return OutboxEntry(
        ref=message_ref(message),
        at=message.stored_at,
        peer_id=message.peer_id,
        item_id=message.item_id,
        message=message,
    )


def event_of(entry: OutboxEntry) -> queue_pb2.Event:
    """The event that tells the other side."""
    ref, accepted_at = entry.ref, to_timestamp(entry.at)
    match ref.kind:
        case OutboxKind.MESSAGE:
            assert entry.message is not None  # noqa: S101  # the store promises it for this kind
            accepted = queue_pb2.MessageAccepted(
                message=message_to_proto(entry.message), receiver_id=entry.peer_id, item_id=entry.item_id
            )
            return queue_pb2.Event(accepted_at=accepted_at, message_accepted=accepted)
        case OutboxKind.READ:
            read = queue_pb2.ReadAdvanced(
                user_id=ref.owner, peer_id=entry.peer_id, chat_id=ref.chat_id, up_to=ref.up_to
            )
            return queue_pb2.Event(accepted_at=accepted_at, read_advanced=read)
        case OutboxKind.OPENED:
            opened = queue_pb2.ChatOpened(
                user_id=ref.owner, peer_id=entry.peer_id, chat_id=ref.chat_id, item_id=entry.item_id
            )
            return queue_pb2.Event(accepted_at=accepted_at, chat_opened=opened)


def exchange_of(entry: OutboxEntry) -> str:
    """Messages go by antispam; the rest has nothing to be checked."""
    return MESSAGES if entry.ref.kind is OutboxKind.MESSAGE else CHECKED
