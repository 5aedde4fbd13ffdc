"""Between the queues: judges what `messages` holds and passes it on. What a verdict does is dbstore's."""

from collections.abc import Sequence

from antispam.codec import candidate_of_event, text_of, verdict_to_proto
from antispam.judge import Judge
from mesh.amqp import CHECKED, DONE, Outcome, Publisher, Received


class Antispam:
    """Handler of the queue `messages`.

    Args:
        judge: gives the verdicts.
        publisher: takes the events on to `checked`.
    """

    def __init__(self, judge: Judge, publisher: Publisher) -> None:
        self._judge = judge
        self._publisher = publisher

    async def __call__(self, received: Sequence[Received]) -> list[Outcome]:
        """Judges all messages at once and publishes all events as one body, in order.

        Raises:
            Unavailable: the queue did not take them; the retry ladder leads to `checked` as well.
        """
        events = [one.event for one in received]
        messages = [text for event in events if (text := text_of(event))]
        verdicts = await self._judge.judge([candidate_of_event(message) for message in messages])
        for message, verdict in zip(messages, verdicts, strict=True):
            message.verdict.CopyFrom(verdict_to_proto(verdict))
        await self._publisher.publish(CHECKED, "", events)
        return [DONE] * len(received)
