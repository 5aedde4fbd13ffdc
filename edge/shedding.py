"""What is dropped when there is too much to do, pure: measurements and time are handed in.

Criticality is the proto's: 1 sheddable, 2 sheddable plus, 3 critical, 4 critical plus. What is dropped first
is what nobody misses; the session itself is never dropped.
Source: https://stripe.com/blog/rate-limiters, and the SRE book's chapter on handling overload.
"""

from dataclasses import dataclass

CRITICAL = 3

TOO_BUSY = 0.9
AT_EASE = 0.6
STEP_UP_AFTER = 0.3
STEP_DOWN_AFTER = 2.0
"""Seconds. Up fast and down slowly, so that shedding does not flap."""
LAST_STEP_AFTER = 10.0
"""Seconds; critical calls are dropped only when dropping all the others for a while has not helped."""


@dataclass(slots=True)
class WorkerShedder:
    """Drops by the utilisation of this worker, the least critical methods first.

    Attributes:
        level: what is dropped: methods of this criticality and below; 0 for nothing.
    """

    level: int = 0
    _changed_at: float = 0.0

    def observe(self, busy: float, now: float) -> None:
        """Takes a measurement: 0 is idle, 1 is all that this worker can do."""
        since = now - self._changed_at
        if busy > TOO_BUSY and self.level < CRITICAL:
            last_resort = self.level == CRITICAL - 1
            if since >= (LAST_STEP_AFTER if last_resort else STEP_UP_AFTER):
                self.level, self._changed_at = self.level + 1, now
        elif busy < AT_EASE and self.level and since >= STEP_DOWN_AFTER:
            self.level, self._changed_at = self.level - 1, now

    def sheds(self, criticality: int) -> bool:
        """Whether a call of this criticality is to be dropped now."""
        return 0 < criticality <= self.level


@dataclass(slots=True)
class FleetShedder:
    """Keeps room for critical methods: the others may fill only a share of what the fleet can do.

    Attributes:
        calls_per_edge: calls that one edge can work on at once.
        share: what of it the uncritical may fill.
    """

    calls_per_edge: int
    share: float = 0.8
    _uncritical: int = 0
    _edges: int = 1

    def observe(self, uncritical: int, edges: int) -> None:
        """Takes the fleet's uncritical calls under way and the number of its edges."""
        self._uncritical, self._edges = uncritical, max(edges, 1)

    def sheds(self, criticality: int) -> bool:
        """Whether a call of this criticality is to be dropped now."""
        return criticality < CRITICAL and self._uncritical >= self.share * self.calls_per_edge * self._edges
