"""What a passport says of each stage, from what the servers hold; pure."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from mesh.amqp.delivery import Delivery
from mesh.amqp.parking import ParkedBody
from mesh.cli.stamps import Stamp, Stream, Traces, passport
from mesh.mailbox.inspection import Copy
from mesh.mailbox.model import StoredChat, StoredMessage
from messenger.antispam.v1 import antispam_pb2
from messenger.common.v1.types_pb2 import Message
from messenger.events.v1.queue_pb2 import Event, MessageAccepted

THEN = datetime(2026, 1, 1, tzinfo=UTC)
SENT = StoredMessage(
    owner="ann", chat_id="c", message_id="m5", seq=1, sender_id="ann", peer_id="bob", text="hello",
    client_msg_id="k", created_at=THEN, stored_at=THEN,
)  # fmt: skip


def after(seconds: float) -> datetime:
    """A time on the message's way."""
    return THEN + timedelta(seconds=seconds)


GOT = replace(SENT, owner="bob", peer_id="ann", client_msg_id="", stored_at=after(3), judged_at=after(2))
CHAT = StoredChat(owner="bob", chat_id="c", peer_id="ann", touched_at=THEN, seq=1)
QUEUES = {"checked": 0, "retry.1s": 0}


def stamps(got: StoredMessage | None = GOT, chat: StoredChat = CHAT, **told: Any) -> dict[str, Stamp]:
    """The passport, by stage; of those that both users have, the receiver's."""
    copies = [Copy(shard=0, message=SENT, chat=None, outbox_since=None, queued_at=after(1))]
    if got is not None:
        copies.append(
            Copy(shard=1, message=got, chat=chat, outbox_since=None, delivered_at=after(8), read_at=after(9))
        )
    known: dict[str, Any] = {
        "now": after(86_400),
        "copies": copies,
        "streams": {"ann": Stream(), "bob": Stream()},
        "parked": [],
        "queues": QUEUES,
        "troubles": [],
    }
    return {stamp.stage: stamp for stamp in reversed(passport(Traces(**known | told)))}


def parked(verdict: antispam_pb2.Verdict | None) -> ParkedBody:
    """The message in the parking queue."""
    accepted = MessageAccepted(message=Message(message_id="m5"), verdict=verdict)
    return ParkedBody(
        key="k", delivery=Delivery(attempt=10, cause="odd"), parked_at=after(7), unreadable="", body=b"",
        events=(Event(message_accepted=accepted),),
    )  # fmt: skip


def verdict(decision: "antispam_pb2.Decision.ValueType") -> antispam_pb2.Verdict:
    """What antispam said after two seconds."""
    said = antispam_pb2.Verdict(decision=decision, checker="links", reason="SPAM")
    said.judged_at.FromDatetime(after(2))
    return said


UNCHECKED = replace(GOT, unchecked=True)
ANTISPAM, QUEUE = "antispam", "RabbitMQ, messages"


@pytest.mark.parametrize(
    ("got", "bodies", "done", "at", "place"),
    [
        (GOT, [], True, 2, ANTISPAM),
        (UNCHECKED, [], False, 2, ANTISPAM),
        (replace(UNCHECKED, judged_at=None), [], False, 3, QUEUE),
        (None, [parked(verdict(antispam_pb2.DECISION_PASS))], True, 2, ANTISPAM),
        (None, [parked(verdict(antispam_pb2.DECISION_REJECT))], True, 2, "antispam, links"),
        (None, [parked(verdict(antispam_pb2.DECISION_UNCHECKED))], False, 2, ANTISPAM),
        (None, [parked(None)], False, 7, QUEUE),
    ],
)
def test_a_verdict(
    got: StoredMessage | None, bodies: list[ParkedBody], done: bool, at: float, place: str
) -> None:
    """Whatever became of it, and wherever the message is by now, there is a time and a place."""
    told = stamps(got, parked=bodies)["verdict"]
    assert (told.done, told.at, told.place) == (done, after(at), place)


@pytest.mark.parametrize(
    ("got", "told", "done", "at"),
    [
        (GOT, {}, True, 3),
        (replace(GOT, changed_at=after(60)), {}, True, 60),
        (replace(GOT, changed_at=after(60), version=1), {}, True, 3),
        (GOT, {"now": after(4)}, None, None),
        (GOT, {"queues": {"retry.60s": 1}}, None, None),
        (GOT, {"queues": {}}, None, None),
        (GOT, {"streams": {"bob": Stream(told=(after(5), "1-1-1"))}}, True, 5),
        (None, {}, False, None),
    ],
)
def test_a_publishing(
    got: StoredMessage | None, told: dict[str, Any], done: bool | None, at: float | None
) -> None:
    """What a stream has forgotten was told with the delivery, or touch, where nothing is under way."""
    found = stamps(got, **told)
    assert {(found[stage].done, found[stage].at) for stage in ("published", "pushed")} == {
        (done, None if at is None else after(at))
    }


@pytest.mark.parametrize(
    ("chat", "receipts", "at", "detail"),
    [
        ({"read_up_to": "m5", "read_seq": 1}, {}, 9, "up to m5"),
        ({"read_up_to": "m6", "read_seq": 2}, {}, 9, "up to m6, at the latest"),
        ({"read_up_to": "m6", "read_seq": 2}, {"read": after(6)}, 6, "up to m6"),
        ({"read_up_to": "m6", "read_seq": 0}, {}, None, "up to m6"),
        ({"read_up_to": "m4", "read_seq": 2}, {}, None, "up to m4"),
    ],
)
def test_a_reading(
    chat: dict[str, Any], receipts: dict[str, datetime], at: float | None, detail: str
) -> None:
    """When the pointer came to the message; what came late, below the pointer, is not read by that."""
    told = stamps(chat=replace(CHAT, **chat), streams={"ann": Stream(receipts=receipts)})["read"]
    assert (told.done, told.detail) == (at is not None, detail)
    assert told.at == (None if at is None else after(at))
