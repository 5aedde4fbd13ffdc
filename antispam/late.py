"""Judges what passed unchecked, when there is time. What becomes of a message by it is dbstore's."""

from collections.abc import Sequence

import structlog

from antispam.codec import candidate_of_event, text_of, time_of_judging, verdict_to_proto
from antispam.judge import Judge
from antispam.verdict import Decision
from mesh.amqp import CHECKED, DONE, LATE, PAUSE, Outcome, Publisher, Received
from messenger.antispam.v1 import antispam_pb2
from messenger.events.v1.queue_pb2 import Event, MessageAccepted, MessageEdited, MessageJudged

log = structlog.get_logger()


class LateAntispam:
    """Handler of the queue `late`.

    Args:
        judge: gives the verdicts; with a longer budget than where messages wait for it.
        publisher: takes verdicts to `checked`, and what has none yet back to `late`.
    """

    def __init__(self, judge: Judge, publisher: Publisher) -> None:
        self._judge = judge
        self._publisher = publisher

    async def __call__(self, received: Sequence[Received]) -> list[Outcome]:
        """Judges all messages at once; those that a checker gives no answer for come again after a pause.

        Raises:
            Unavailable: the queue did not take the verdicts.
        """
        events = [one.event for one in received]
        texts = [(event, text) for event in events if (text := text_of(event))]
        verdicts = await self._judge.judge([candidate_of_event(text) for _, text in texts])
        judged, unanswered, judged_at = [], [], time_of_judging()
        for (event, text), verdict in zip(texts, verdicts, strict=True):
            if verdict.decision is Decision.UNCHECKED:
                unanswered.append(event)
            else:
                judged.append(_event_of(text, verdict_to_proto(verdict, judged_at), event.traceparent))
        if judged:
            await self._publisher.publish(CHECKED, "", judged)
        if unanswered:
            log.warning("messages are still unchecked", events=len(unanswered))
            await self._publisher.publish(LATE, PAUSE, unanswered)
        return [DONE] * len(received)


def _event_of(
    text: MessageAccepted | MessageEdited, verdict: antispam_pb2.Verdict, traceparent: str
) -> Event:
    message = text.message
    judged = MessageJudged(
        message_id=message.message_id,
        chat_id=message.chat_id,
        sender_id=message.sender_id,
        receiver_id=text.receiver_id,
        verdict=verdict,
        version=text.version if isinstance(text, MessageEdited) else 0,
    )
    event = Event(message_judged=judged, traceparent=traceparent)
    event.accepted_at.CopyFrom(message.created_at)
    return event
