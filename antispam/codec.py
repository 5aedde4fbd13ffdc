"""Between protobuf messages and what the rules know."""

from google.protobuf.timestamp_pb2 import Timestamp

from antispam.verdict import Candidate, Decision, Verdict
from messenger.antispam.v1 import antispam_pb2
from messenger.events.v1.queue_pb2 import Event, MessageAccepted, MessageEdited

_TO_PROTO = {
    Decision.PASS: antispam_pb2.DECISION_PASS,
    Decision.REJECT: antispam_pb2.DECISION_REJECT,
    Decision.UNCHECKED: antispam_pb2.DECISION_UNCHECKED,
}
_FROM_PROTO = {number: decision for decision, number in _TO_PROTO.items()}


def text_of(event: Event) -> MessageAccepted | MessageEdited | None:
    """What of an event a person will read; an edited text is judged like a new one."""
    match event.WhichOneof("body"):
        case "message_accepted":
            return event.message_accepted
        case "message_edited":
            return event.message_edited
        case _:
            return None


def candidate_of_event(accepted: MessageAccepted | MessageEdited) -> Candidate:
    """The message that an event tells of."""
    message = accepted.message
    return Candidate(
        message_id=message.message_id,
        chat_id=message.chat_id,
        sender_id=message.sender_id,
        receiver_id=accepted.receiver_id,
        text=message.text,
        created_at=message.created_at.ToMilliseconds(),
    )


def candidate_of_request(candidate: antispam_pb2.Candidate) -> Candidate:
    """The message that somebody asks about."""
    return Candidate(
        message_id=candidate.message_id,
        chat_id=candidate.chat_id,
        sender_id=candidate.sender_id,
        receiver_id=candidate.receiver_id,
        text=candidate.text,
        created_at=candidate.created_at.ToMilliseconds(),
    )


def candidate_to_proto(candidate: Candidate) -> antispam_pb2.Candidate:
    """The message as another checker is asked about it."""
    proto = antispam_pb2.Candidate(
        message_id=candidate.message_id,
        chat_id=candidate.chat_id,
        sender_id=candidate.sender_id,
        receiver_id=candidate.receiver_id,
        text=candidate.text,
    )
    proto.created_at.FromMilliseconds(candidate.created_at)
    return proto


def verdict_to_proto(verdict: Verdict, judged_at: Timestamp | None = None) -> antispam_pb2.Verdict:
    """The verdict as it travels, with the time where somebody will ask for it."""
    return antispam_pb2.Verdict(
        decision=_TO_PROTO[verdict.decision],
        checker=verdict.checker,
        reason=verdict.reason,
        judged_at=judged_at,
    )


def time_of_judging() -> Timestamp:
    """Now, by this host's clock: one for all that is judged at once."""
    now = Timestamp()
    now.GetCurrentTime()
    return now


def verdict_of(verdict: antispam_pb2.Verdict, checker: str) -> Verdict:
    """Another checker's verdict; a decision that this code does not know counts as none."""
    decision = _FROM_PROTO.get(verdict.decision, Decision.UNCHECKED)
    if decision is Decision.PASS:
        return Verdict(decision=decision)
    return Verdict(decision=decision, checker=verdict.checker or checker, reason=verdict.reason)
