"""Runs of a scenario: warm up, look at clock and accounts, load, look again."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.accounts import Accounts, Seconds, used_between
from bench.fleet import Fleet


@dataclass(slots=True, kw_only=True)
class Sample:
    """What drivers have counted since they were last asked.

    Attributes:
        counts: events by name; `errors` are answers that were errors.
        seconds: latencies by name.
        complaint: the first error.
    """

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    complaint: str = ""

    def error(self, text: bytes) -> None:
        """Counts an error answer."""
        self.counts["errors"] += 1
        self.complaint = self.complaint or text.decode()

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (dict(self.counts), dict(self.seconds), self.complaint)


def _restore(counts: dict[str, int], seconds: dict[str, list[float]], complaint: str) -> Sample:
    return merged([Sample(counts=counts, seconds=seconds, complaint=complaint)])


def merged(samples: Sequence[Sample]) -> Sample:
    """All drivers' samples as one."""
    whole = Sample()
    for sample in samples:
        for name, count in sample.counts.items():
            whole.counts[name] += count
        for name, seconds in sample.seconds.items():
            whole.seconds[name] += seconds
        whole.complaint = whole.complaint or sample.complaint
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One run: its length in seconds, what the drivers counted, what servers and drivers used."""

    seconds: float
    sample: Sample
    used: Seconds
    generator: float

    def rate(self, name: str) -> float:
        """Events a second."""
        return round(self.sample.counts[name] / self.seconds, 1)


def window(fleet: Fleet, accounts: Accounts, seconds: float) -> Window:
    """One measured stretch of a load that is running."""
    fleet.each("mark")
    before, own, began = accounts.seconds(), fleet.seconds(), time.monotonic()
    time.sleep(seconds)
    sample = merged(fleet.each("mark"))
    after, own, ended = accounts.seconds(), fleet.seconds() - own, time.monotonic()
    return Window(seconds=ended - began, sample=sample, used=used_between(before, after), generator=own)


def runs(
    fleet: Fleet,
    accounts: Accounts,
    *,
    start: tuple[object, ...],
    count: int,
    seconds: float,
    warm_up: float,
    told: Callable[[str], None],
) -> list[Window]:
    """Runs of a load, each from standstill to standstill.

    Args:
        fleet: drivers with the commands `start`, `mark` and `stop`; `stop` answers what has been lost.
        accounts: of the servers.
        start: arguments of the drivers' `start`.
        count: runs.
        seconds: measured seconds of each.
        warm_up: seconds before them.
        told: hears what is going on.

    Raises:
        RuntimeError: something was lost: then there is nothing to measure.
    """
    windows = []
    for number in range(1, count + 1):
        told(f"run {number} of {count}")
        fleet.each("start", *start)
        time.sleep(warm_up)
        windows.append(window(fleet, accounts, seconds))
        if lost := sum(fleet.each("stop")):
            raise RuntimeError(f"{lost} were begun and never arrived; {windows[-1].sample.complaint}")
    return windows


async def left(under_way: Callable[[], int], seconds: float) -> int:
    """What is still under way when it has all arrived, or after so many seconds."""
    until = time.monotonic() + seconds
    while (count := under_way()) > 0 and time.monotonic() < until:  # noqa: ASYNC110  # no hot path gets slower
        await asyncio.sleep(0.02)
    return count
