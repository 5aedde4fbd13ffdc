"""What keeps its order on the way to the mailboxes."""

import pytest

from dbstore.rules import chat_of
from messenger.events.v1.queue_pb2 import Event

KINDS = [field.name for field in Event.DESCRIPTOR.oneofs_by_name["body"].fields]


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_part_of_its_chat_s_order(kind: str) -> None:
    """No event of a chat overtakes another one, of whatever kind."""
    event = Event()
    body = getattr(event, kind)
    (body.message if "message" in body.DESCRIPTOR.fields_by_name else body).chat_id = "chat"
    body.SetInParent()
    assert chat_of(event) == "chat"
