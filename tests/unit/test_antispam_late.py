"""What antispam says late of texts that passed unchecked; the queue and the checker in hand."""

from collections.abc import Sequence
from typing import cast

from antispam.judge import Judge
from antispam.late import LateAntispam
from antispam.verdict import PASS, Candidate, Verdict
from mesh.amqp import Delivery, Publisher, Received
from messenger.events.v1.queue_pb2 import Event


class Easy:
    """A checker that passes everything."""

    name = "easy"

    async def check(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [PASS] * len(candidates)


class HandPublisher:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Event] = []

    async def publish(self, _exchange: str, _key: str, events: Sequence[Event]) -> None:
        self.sent += events


async def test_a_verdict_names_the_text() -> None:
    """Of a message and of its edit there is one verdict each, which says of which text it is."""
    publisher, sent, edited = HandPublisher(), Event(), Event()
    sent.message_accepted.message.message_id = "m1"
    edited.message_edited.message.message_id = "m1"
    edited.message_edited.version = 3
    late = LateAntispam(Judge([Easy()], budget=5), cast(Publisher, publisher))
    await late([Received(event=event, delivery=Delivery()) for event in (sent, edited)])
    judged = [event.message_judged for event in publisher.sent]
    assert [(one.message_id, one.version) for one in judged] == [("m1", 0), ("m1", 3)]
