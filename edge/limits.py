"""The token bucket, pure: time is handed in. A user has one a method, an address some; memory is bounded."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Limiter:
    """Token buckets by key, filled at `rate` tokens a second up to `burst`.

    The least recently used buckets are forgotten beyond `capacity`; a forgotten bucket is a full one, so a
    limiter under memory pressure errs towards letting through.
    Source: https://stripe.com/blog/rate-limiters
    """

    def __init__(self, *, rate: float, burst: float, capacity: int = 100_000) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def take(self, key: Hashable, cost: float, now: float) -> float:
        """Takes `cost` tokens at time `now` (seconds, any monotonic clock).

        Returns:
            0 when they were there, else the seconds until they will be; then nothing was taken.
        """
        if not cost:
            return 0.0
        bucket = self._bucket(key, now)
        if bucket.tokens >= cost:
            bucket.tokens -= cost
            return 0.0
        return (cost - bucket.tokens) / self._rate

    def wait(self, key: Hashable, cost: float, now: float) -> float:
        """The seconds until there will be `cost` tokens, 0 when there are; takes none."""
        if key not in self._buckets:
            return 0.0
        return max(cost - self._bucket(key, now).tokens, 0.0) / self._rate

    def _bucket(self, key: Hashable, now: float) -> _Bucket:
        """The key's bucket, filled up to now."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
            bucket.at = now
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)
