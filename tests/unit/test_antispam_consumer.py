"""What antispam says of events beside their verdicts; the queue and the checker in hand."""

from collections.abc import Sequence
from typing import cast

import pytest

from antispam.consumer import Antispam
from antispam.judge import Judge
from antispam.verdict import PASS, Candidate, Verdict
from mesh.amqp import DONE, Delivery, Publisher, Received
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


@pytest.mark.parametrize("redelivered", [False, True])
async def test_what_was_delivered_before_may_have_been_judged(redelivered: bool) -> None:
    """A message that another process had, and did not acknowledge, says so: the first verdict holds."""
    publisher, event = HandPublisher(), Event()
    event.message_accepted.message.message_id = "m1"
    handler = Antispam(Judge([Easy()], budget=5), cast(Publisher, publisher), budget=5)
    assert await handler([Received(event=event, delivery=Delivery(redelivered=redelivered))]) == [DONE]
    [sent] = publisher.sent
    assert sent.message_accepted.again == redelivered
