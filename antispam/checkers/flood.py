"""Rejects what one sender sends beyond any human pace, or to more people than anybody talks to at once."""

from collections import deque
from dataclasses import dataclass, field

from antispam.recent import Recent
from antispam.verdict import Candidate


@dataclass(slots=True)
class _Sender:
    sent: deque[float]
    receivers: dict[str, float] = field(default_factory=dict)
    """When each was last written to, the longest ago first."""


class Flood:
    """A sliding window over each sender's messages. Rejected ones count, too: who goes on stays rejected.

    Args:
        messages: messages that one sender may send within the window.
        receivers: different people that one sender may write to within the window.
        window: seconds.
        senders: senders remembered; the state of one is bounded by `messages` and `receivers`.
    """

    name = "flood"

    def __init__(
        self, *, messages: int = 1_000, receivers: int = 60, window: float = 10.0, senders: int = 10_000
    ) -> None:
        self._receivers = receivers
        self._window = window
        self._senders: Recent[str, _Sender] = Recent(senders, lambda: _Sender(deque(maxlen=messages)))

    def check(self, candidate: Candidate, now: float) -> str:
        """See Rule."""
        sender = self._senders.touch(candidate.sender_id)
        since = now - self._window
        # The deque holds as many as may be sent: a full one whose oldest is recent has no room for another.
        too_many = len(sender.sent) == sender.sent.maxlen and sender.sent[0] > since
        sender.sent.append(now)
        if self._spread(sender, candidate.receiver_id, now, since) > self._receivers:
            return "TOO_MANY_RECEIVERS"
        return "TOO_MANY_MESSAGES" if too_many else ""

    def _spread(self, sender: _Sender, receiver_id: str, now: float, since: float) -> int:
        receivers = sender.receivers
        receivers.pop(receiver_id, None)
        receivers[receiver_id] = now
        while (oldest := next(iter(receivers))) != receiver_id and (
            receivers[oldest] <= since or len(receivers) > self._receivers + 1
        ):
            del receivers[oldest]
        return len(receivers)
