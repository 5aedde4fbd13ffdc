"""What is dropped when there is too much to do, pure: measurements, time and chance are handed in.

Criticality is the proto's: 1 sheddable, 2 sheddable plus, 3 critical, 4 critical plus. What is dropped first
is what nobody misses; the session itself is never dropped.
Source: https://stripe.com/blog/rate-limiters, and the SRE book's chapter on handling overload.
"""

from dataclasses import dataclass

CRITICAL = 3

TOO_BUSY = 0.9
AT_EASE = 0.6
UP_AFTER = 0.3
DOWN_AFTER = 4.0
"""Seconds that one criticality takes to be dropped as a whole, and to be served again as a whole."""

LAST_STEP_AFTER = 10.0
LAST_UP_AFTER = 5.0
"""Seconds of no hope before critical calls are dropped as well, and that it takes to drop them all."""

LAG, LAG_OF_NO_HOPE = 0.25, 1.0
"""Seconds by which the loop of a worker with no time left lags, and of one that is of no use any more."""

SLOW, SLOW_OF_NO_HOPE = 0.2, 2.0
MANY = 0.5
"""Seconds, and the share of calls that take longer when something behind this worker has no time left.

A share and not a mean: where one shard of several hangs its users' calls are very slow and few."""

FEW = 12
"""Calls at once that are no queue: what is slow among them is not so for want of room here."""

WEIGHT = 0.05
"""Of one call in those shares: the last twenty or so count."""

FORGOTTEN = 0.95
"""What is left of those shares after a look at which nothing has renewed them."""

SMOOTHING, PEAK = 0.3, 1.5
"""Weight of one look, and the most that it may say: a single pause of the process is no overload."""


@dataclass(slots=True)
class Strain:
    """How hard this worker has it, by several signs; the worst counts.

    Attributes:
        busy: 0 is idle, 1 is all that it can do.
        hopeless: from 1 on, what is served comes too late to be of use.
    """

    busy: float = 0.0
    hopeless: float = 0.0
    _slow: float = 0.0
    _too_late: float = 0.0

    def answered(self, seconds: float, at_once: int) -> None:
        """A call behind this worker took so long; so many were under way."""
        queued = at_once > FEW
        self._slow += ((queued and seconds > SLOW) - self._slow) * WEIGHT
        self._too_late += ((queued and seconds > SLOW_OF_NO_HOPE) - self._too_late) * WEIGHT

    def look(self, *, elapsed: float, used: float, late: float) -> None:
        """Takes a measurement.

        Args:
            elapsed: seconds since the last one.
            used: processor seconds of this worker in them.
            late: seconds by which this look itself came too late.
        """
        busy = max(used / elapsed, late / LAG, self._slow / MANY)
        hopeless = max(late / LAG_OF_NO_HOPE, self._too_late / MANY)
        self.busy += (min(busy, PEAK) - self.busy) * SMOOTHING
        self.hopeless += (min(hopeless, PEAK) - self.hopeless) * SMOOTHING
        self._slow *= FORGOTTEN
        self._too_late *= FORGOTTEN


@dataclass(slots=True)
class WorkerShedder:
    """Drops by the utilisation of this worker, the least critical methods first, and no more than is needed.

    Attributes:
        level: what is dropped: 1.4 is all of criticality 1, and of criticality 2 four calls in ten.
    """

    level: float = 0.0
    _seen_at: float | None = None
    _hope_at: float = 0.0

    def observe(self, strain: Strain, now: float) -> None:
        """Takes a look at how hard this worker has it."""
        passed, self._seen_at = now - (now if self._seen_at is None else self._seen_at), now
        uncritical = CRITICAL - 1
        if strain.hopeless <= TOO_BUSY or self.level < uncritical:
            self._hope_at = now
        if now - self._hope_at >= LAST_STEP_AFTER:
            self.level = min(self.level + passed / LAST_UP_AFTER, CRITICAL)
        elif self.level > uncritical:
            self.level = max(self.level - passed / DOWN_AFTER, uncritical)
        elif strain.busy > TOO_BUSY:
            self.level = min(self.level + passed / UP_AFTER, uncritical)
        elif strain.busy < AT_EASE:
            self.level = max(self.level - passed / DOWN_AFTER, 0.0)

    def sheds(self, criticality: int, chance: float) -> bool:
        """Whether a call of this criticality is to be dropped now; `chance` is from 0 to below 1."""
        return chance < self.level - (criticality - 1)


@dataclass(slots=True)
class FleetShedder:
    """Keeps room for critical methods: the others may fill only a share of what the fleet can do.

    Attributes:
        calls_per_edge: calls that one edge can work on at once.
        share: what of it the uncritical may fill.
    """

    calls_per_edge: int
    share: float = 0.8
    _elsewhere: int = 0
    _edges: int = 1

    def observe(self, elsewhere: int, edges: int) -> None:
        """Takes the uncritical calls under way on the other edges, and the number of all edges."""
        self._elsewhere, self._edges = elsewhere, max(edges, 1)

    def sheds(self, criticality: int, here: int) -> bool:
        """Whether a call of this criticality is to be dropped, with so many uncritical ones at work here."""
        room = self.share * self.calls_per_edge * self._edges
        return criticality < CRITICAL and here + self._elsewhere >= room
