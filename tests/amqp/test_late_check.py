"""What passed unchecked is judged late: antispam's consumer of the queue `late`, between real queues."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from antispam.checkers.blocklist import GTUBE
from antispam.judge import Judge
from antispam.late import LateAntispam
from antispam.rules import Rules, time_of_sending
from antispam.settings import Settings
from antispam.verdict import PASS, Candidate, Verdict, unchecked
from antispam.wiring import rules
from mesh.amqp import CHECKED, LATE, Consumer, Publisher, Topology
from messenger.antispam.v1 import antispam_pb2
from tests.amqp.support import Recorder, event, message


@dataclass
class Tired:
    """A checker that does not answer the first time that it is asked about a message."""

    name: str = "tired"
    asked: list[str] = field(default_factory=list)

    async def check(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """See Checker."""
        verdicts = []
        for candidate in candidates:
            first = candidate.message_id not in self.asked
            self.asked.append(candidate.message_id)
            verdicts.append(unchecked(self.name, "ASLEEP") if first else PASS)
        return verdicts


def own(amqp_url: str) -> Rules:
    """The rules as the late check has them."""
    return rules(Settings(amqp_url=amqp_url), time_of_sending())


async def test_late_verdicts_go_on_to_checked(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """Each text gets one verdict, with all that dbstore needs to take effect of it."""
    seen = Recorder()
    handler = LateAntispam(Judge([own(amqp_url)], budget=2), publisher)
    await publisher.publish(LATE, "", [message("m1"), message("m2", GTUBE), event("no text")])
    async with (
        Consumer(amqp_url, topology, LATE, handler, publisher),
        Consumer(amqp_url, topology, CHECKED, seen, publisher),
    ):
        first, second = [(await seen.next()).event.message_judged for _ in range(2)]
    assert (first.message_id, first.verdict.decision) == ("m1", antispam_pb2.DECISION_PASS)
    assert (second.message_id, second.verdict.decision) == ("m2", antispam_pb2.DECISION_REJECT)
    assert (second.sender_id, second.receiver_id) == ("from-m2", "to-m2")
    assert seen.is_empty()


async def test_what_gets_no_answer_comes_again(
    amqp_url: str, topology: Topology, publisher: Publisher
) -> None:
    """A checker that is away costs no verdict: the message is judged again after a pause."""
    seen, tired = Recorder(), Tired()
    handler = LateAntispam(Judge([tired], budget=2), publisher)
    await publisher.publish(LATE, "", [message("m1")])
    async with (
        Consumer(amqp_url, topology, LATE, handler, publisher),
        Consumer(amqp_url, topology, CHECKED, seen, publisher),
    ):
        judged = (await seen.next()).event.message_judged
    assert (judged.message_id, judged.verdict.decision) == ("m1", antispam_pb2.DECISION_PASS)
    assert tired.asked == ["m1", "m1"]
