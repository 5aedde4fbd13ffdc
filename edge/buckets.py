"""Token buckets that all edges share, in Redis; each edge takes tokens by the handful and spends its purse.

So a call costs no round trip while the purse holds out, and a user on several edges has one bucket all the
same. While Redis is away each edge has its own.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis.asyncio
import structlog

from edge.limits import Limiter
from mesh.bus import translated
from mesh.errors import Unavailable
from mesh.mailbox.buckets import BucketMap

log = structlog.get_logger()

PURSE_SECONDS = 5.0
"""How long tokens in a purse are good; then they are the bucket's again, which has filled meanwhile."""

PATIENCE = 0.1
"""Seconds that a call waits for the shared bucket, before this edge goes on with its own."""

TAKE = """
local rate, burst, want, least = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = burst
if bucket[1] then tokens = math.min(burst, bucket[1] + (now - bucket[2]) * rate) end
local given = math.min(want, tokens)
if given < least then given = 0 end
redis.call('HSET', KEYS[1], 'tokens', tokens - given, 'at', now)
redis.call('EXPIRE', KEYS[1], math.ceil(burst / rate) + 1)
return {tostring(given), tostring(tokens)}
"""


@dataclass(slots=True)
class _Purse:
    tokens: float
    until: float


class SharedBuckets:
    """The users' token buckets, one a user and method.

    Args:
        urls: Redis nodes, in node order, as the bus has them.
        rate: tokens a second.
        burst: tokens that a bucket holds.
        capacity: purses kept; beyond it the least recently used is forgotten.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        rate: float,
        burst: float,
        capacity: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = [
            redis.asyncio.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE)
            for url in urls
        ]
        self._map = BucketMap.even(len(urls))
        self._take = self._nodes[0].register_script(TAKE)
        self._rate, self._burst = rate, burst
        self._handful = max(burst / 10, 1.0)
        self._capacity = capacity
        self._clock = clock
        self._purses: OrderedDict[tuple[str, str], _Purse] = OrderedDict()
        self._own = Limiter(rate=rate, burst=burst, capacity=capacity)
        self._alone_until = 0.0

    async def __aenter__(self) -> "SharedBuckets":
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self._nodes:
            await node.aclose()

    async def take(self, user_id: str, method: str, cost: float) -> float:
        """Takes `cost` tokens.

        Returns:
            0 when they were there, else the seconds until they will be; then nothing was taken.
        """
        if not cost:
            return 0.0
        key, now = (user_id, method), self._clock()
        purse = self._purses.get(key)
        if purse is not None and purse.until > now and purse.tokens >= cost:
            purse.tokens -= cost
            self._purses.move_to_end(key)
            return 0.0
        if now < self._alone_until:
            return self._own.take(key, cost, now)
        try:
            given, held = await self._ask(user_id, method, cost)
        except Unavailable:
            log.warning("token buckets are not shared while Redis is away")
            self._alone_until = now + PURSE_SECONDS
            return self._own.take(key, cost, now)
        if given < cost:
            return (cost - held) / self._rate
        self._fill(key, given - cost, now)
        return 0.0

    async def _ask(self, user_id: str, method: str, cost: float) -> tuple[float, float]:
        node = self._nodes[self._map.node_of(user_id)]
        arguments = [self._rate, self._burst, max(self._handful, cost), cost]
        with translated():
            given, held = await self._take(keys=[f"bucket:{user_id}:{method}"], args=arguments, client=node)
        return float(given), float(held)

    def _fill(self, key: tuple[str, str], tokens: float, now: float) -> None:
        self._purses[key] = _Purse(tokens, now + PURSE_SECONDS)
        self._purses.move_to_end(key)
        if len(self._purses) > self._capacity:
            self._purses.popitem(last=False)
