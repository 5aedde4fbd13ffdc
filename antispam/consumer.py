"""Between the queues: judges what `messages` holds and passes it on. What a verdict does is dbstore's."""

import asyncio
from collections.abc import Sequence

from antispam import urgency
from antispam.codec import candidate_of_event, text_of, time_of_judging, verdict_to_proto
from antispam.judge import Judge
from antispam.verdict import unchecked
from mesh.amqp import CHECKED, DONE, Outcome, Publisher, Received
from messenger.events.v1.queue_pb2 import Event


class Antispam:
    """Handler of the queue `messages`.

    Args:
        judge: gives the verdicts.
        publisher: takes the events on to `checked`.
        budget: seconds from its publishing until a message goes on, judged or not.
    """

    def __init__(self, judge: Judge, publisher: Publisher, *, budget: float) -> None:
        self._judge = judge
        self._publisher = publisher
        self._budget = budget

    async def __call__(self, received: Sequence[Received]) -> list[Outcome]:
        """Judges all messages at once and publishes all events, in order, as one body.

        Those that have waited for long go by themselves, so that the others' judging does not hold them up.

        Raises:
            Unavailable: the queue did not take them; the retry ladder leads to `checked` as well.
        """
        for one in received:
            if one.delivery.redelivered and one.event.HasField("message_accepted"):
                one.event.message_accepted.again = True
        groups = urgency.groups([self._budget - one.waited for one in received], self._judge.budget)
        outcomes = await asyncio.gather(
            *(self._carry([received[n].event for n in group.members], group.seconds) for group in groups),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return [DONE] * len(received)

    async def _carry(self, events: Sequence[Event], seconds: float) -> None:
        texts = [text for event in events if (text := text_of(event))]
        if seconds > 0:
            verdicts = await self._judge.judge([candidate_of_event(text) for text in texts], seconds)
        else:
            verdicts = [unchecked("antispam", "OUT_OF_TIME")] * len(texts)
        judged_at = time_of_judging()
        for text, verdict in zip(texts, verdicts, strict=True):
            text.verdict.CopyFrom(verdict_to_proto(verdict, judged_at))
        await self._publisher.publish(CHECKED, "", events)
