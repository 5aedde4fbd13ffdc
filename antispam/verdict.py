"""What is judged, what a judgement is, and how the checkers' judgements become one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A message on its way to its receiver; `created_at` in milliseconds since 1970, UTC."""

    message_id: str
    sender_id: str
    receiver_id: str
    text: str
    chat_id: str = ""
    created_at: int = 0


class Decision(Enum):
    """What becomes of a message."""

    PASS = auto()
    REJECT = auto()
    UNCHECKED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision, the checker that made it (or failed to), and its reason in UPPER_SNAKE; empty on a pass."""

    decision: Decision
    checker: str = ""
    reason: str = ""


PASS = Verdict(decision=Decision.PASS)


def reject(checker: str, reason: str) -> Verdict:
    """The checker found the message to be spam."""
    return Verdict(decision=Decision.REJECT, checker=checker, reason=reason)


def unchecked(checker: str, reason: str) -> Verdict:
    """The checker gave no answer."""
    return Verdict(decision=Decision.UNCHECKED, checker=checker, reason=reason)


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict from all checkers': any reject wins, then any missing answer; of several the first."""
    for decision in (Decision.REJECT, Decision.UNCHECKED):
        for verdict in verdicts:
            if verdict.decision is decision:
                return verdict
    return PASS
