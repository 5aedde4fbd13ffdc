"""Lets calls in or turns them away: a user's calls at once and tokens, the fleet's room, this worker."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable

import redis.asyncio
import structlog

from edge.buckets import SharedBuckets
from edge.shedding import CRITICAL, FleetShedder, Strain, WorkerShedder
from edge.table import Method
from mesh import metrics
from mesh.bus import TIMEOUT, translated
from mesh.errors import MessengerError, ResourceExhausted

log = structlog.get_logger()

SHED_LEVEL = metrics.gauge(
    "messenger_edge_shed_level",
    "What this edge sheds: 1 is all that is sheddable, 2 sheddable plus as well, 3 critical; 1.4 is between.",
).labels()

TICK = 0.1
"""Seconds between two looks at this worker."""

REPORT_SECONDS = 1.0
"""Between two reports to the fleet."""

STALE_MS = 5_000
"""Age at which an edge's report no longer counts."""

SHED_RETRY_MS = 1_000


class Admission:
    """The four limiters before every call.

    Args:
        buckets: token buckets a user and method.
        redis_url: the node where edges tell each other how busy they are.
        place: this edge, among all.
        concurrent: calls of one user under way at once.
        calls_per_edge: calls that one edge can work on at once.
        clock: seconds, monotonic.
        used: processor seconds of this worker.
        chance: from 0 to below 1; which call of a criticality that is dropped in part.
    """

    def __init__(
        self,
        buckets: SharedBuckets,
        *,
        redis_url: str,
        place: str,
        concurrent: int,
        calls_per_edge: int,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._buckets = buckets
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True
        )
        self._place = place
        self._concurrent = concurrent
        self._clock, self._used, self._chance = clock, used, chance
        self._strain = Strain()
        self._worker = WorkerShedder()
        self._fleet = FleetShedder(calls_per_edge=calls_per_edge)
        self._of_user: Counter[str] = Counter()
        self._at_once = self._uncritical = 0

    async def __aenter__(self) -> "Admission":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    def shed(self, method: Method) -> ResourceExhausted | None:
        """Why a call is turned away because of all the others; None for most. To be asked once a call."""
        if not self._worker.sheds(method.criticality, self._chance()) and not self._fleet.sheds(
            method.criticality, self._uncritical
        ):
            return None
        return ResourceExhausted(
            f"Too much to do; {method.name} has to wait.", reason="SHED", retry_after_ms=SHED_RETRY_MS
        )

    def begin(self, user_id: str, method: Method) -> None:
        """Counts a call in; `end` must follow.

        Raises:
            ResourceExhausted: the user has too many under way.
        """
        if self._of_user[user_id] >= self._concurrent:
            raise ResourceExhausted(
                f"More than {self._concurrent} calls at once; wait for answers.", reason="TOO_MANY_CALLS"
            )
        self._of_user[user_id] += 1
        self._at_once += 1
        self._uncritical += method.criticality < CRITICAL

    def end(self, user_id: str, method: Method) -> None:
        """Counts a call out."""
        self._of_user[user_id] -= 1
        if not self._of_user[user_id]:
            del self._of_user[user_id]
        self._at_once -= 1
        self._uncritical -= method.criticality < CRITICAL

    def answered(self, seconds: float) -> None:
        """Hears how long a call took behind this worker."""
        self._strain.answered(seconds, self._at_once)

    async def pay(self, user_id: str, method: str, cost: float) -> None:
        """Takes tokens from the user's bucket for a method.

        Raises:
            ResourceExhausted: there are not enough; `retry_after_ms` says when there are.
        """
        pause = await self._buckets.take(user_id, method, cost)
        if pause:
            raise ResourceExhausted(
                f"Too many calls of {method}; come back later.", retry_after_ms=int(pause * 1000) + 1
            )

    async def run(self) -> None:
        """Looks at this worker and at the fleet until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_on())
            group.create_task(self._report_on())

    async def _look_on(self) -> None:
        at, used = self._clock(), self._used()
        while True:
            await asyncio.sleep(TICK)
            elapsed, spent = self._clock() - at, self._used() - used
            at, used = at + elapsed, used + spent
            self.look(elapsed, spent)

    def look(self, elapsed: float, used: float) -> None:
        """Takes a measurement of this worker: seconds since the last one, and processor seconds in them."""
        before = round(self._worker.level)
        self._strain.look(elapsed=elapsed, used=used, late=elapsed - TICK)
        self._worker.observe(self._strain, self._clock())
        SHED_LEVEL.set(self._worker.level)
        if round(self._worker.level) != before:
            level, busy = round(self._worker.level, 1), round(self._strain.busy, 2)
            log.warning("shedding changes", level=level, busy=busy)

    async def _report_on(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self._report()

    async def _report(self) -> None:
        """Tells the fleet, and hears it; alone it is a fleet of one."""
        now_ms = time.time_ns() // 1_000_000
        try:
            with translated():
                pipe = self._redis.pipeline(transaction=False)
                pipe.hset("fleet", self._place, f"{self._uncritical}:{now_ms}")
                pipe.hgetall("fleet")
                _, reports = await pipe.execute()
                fresh, stale = _read(reports, now_ms)
                if stale:
                    await self._redis.hdel("fleet", *stale)
        except MessengerError:
            fresh = {}
        fresh.pop(self._place, None)
        self._fleet.observe(sum(fresh.values()), len(fresh) + 1)


def _read(reports: dict[str, str], now_ms: int) -> tuple[dict[str, int], list[str]]:
    """The fresh reports by edge, and the edges that have long been silent."""
    fresh: dict[str, int] = {}
    stale: list[str] = []
    for place, report in reports.items():
        calls, _, at = report.partition(":")
        if now_ms - int(at) > STALE_MS:
            stale.append(place)
        else:
            fresh[place] = int(calls)
    return fresh, stale
