"""Lets calls in or turns them away: a user's calls at once and tokens, the fleet's room, this worker."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import redis.asyncio
import structlog

from edge.buckets import SharedBuckets
from edge.shedding import CRITICAL, FleetShedder, WorkerShedder
from edge.table import Method
from mesh.bus import TIMEOUT, translated
from mesh.errors import MessengerError, ResourceExhausted

log = structlog.get_logger()

TICK = 0.1
"""Seconds between two looks at this worker."""

REPORT_TICKS = 10
"""Looks between two reports to the fleet."""

STALE_MS = 5_000
"""Age at which an edge's report no longer counts."""

LAG_LIMIT = 0.25
"""Seconds of event loop lag that mean a worker with no time left."""

SLOW_CALL = 0.8
"""Seconds that critical calls take on average when something behind this worker has no time left."""

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
    ) -> None:
        self._buckets = buckets
        self._redis = redis.asyncio.Redis.from_url(
            redis_url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, decode_responses=True
        )
        self._place = place
        self._concurrent = concurrent
        self._clock = clock
        self._worker = WorkerShedder()
        self._fleet = FleetShedder(calls_per_edge=calls_per_edge)
        self._of_user: Counter[str] = Counter()
        self._uncritical = 0
        self._critical_seconds = 0.0

    async def __aenter__(self) -> "Admission":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    def begin(self, user_id: str, method: Method) -> None:
        """Counts a call in; `end` must follow.

        Raises:
            ResourceExhausted: the user has too many under way, or the call is shed.
        """
        if self._of_user[user_id] >= self._concurrent:
            raise ResourceExhausted(
                f"More than {self._concurrent} calls at once; wait for answers.", reason="TOO_MANY_CALLS"
            )
        if self._worker.sheds(method.criticality) or self._fleet.sheds(method.criticality):
            raise ResourceExhausted(
                f"Too much to do; {method.name} has to wait.", reason="SHED", retry_after_ms=SHED_RETRY_MS
            )
        self._of_user[user_id] += 1
        self._uncritical += method.criticality < CRITICAL

    def end(self, user_id: str, method: Method, seconds: float) -> None:
        """Counts a call out, and how long it took."""
        self._of_user[user_id] -= 1
        if not self._of_user[user_id]:
            del self._of_user[user_id]
        if method.criticality < CRITICAL:
            self._uncritical -= 1
        else:
            self._critical_seconds += (seconds - self._critical_seconds) * 0.05

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
        ticks, at, cpu = 0, self._clock(), time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            now, used = self._clock(), time.thread_time()
            lag = now - at - TICK
            busy = max((used - cpu) / (now - at), lag / LAG_LIMIT, self._critical_seconds / SLOW_CALL)
            before = self._worker.level
            self._worker.observe(busy, now)
            if self._worker.level != before:
                log.warning("shedding changes", level=self._worker.level, busy=round(busy, 2))
            self._critical_seconds *= 0.98  # forgotten where no call renews it
            at, cpu, ticks = now, used, ticks + 1
            if ticks % REPORT_TICKS == 0:
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
            fresh = {self._place: self._uncritical}
        self._fleet.observe(sum(fresh.values()), len(fresh))


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
