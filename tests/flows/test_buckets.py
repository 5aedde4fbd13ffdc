"""What edges share of their limits, on real Redis: token buckets, and how busy the fleet is."""

import time
import uuid

import pytest
import redis.asyncio

from edge import table
from edge.admission import STALE_MS, Admission
from edge.buckets import PURSE_SECONDS, SharedBuckets
from mesh.stack import Stack

DATABASE = 9
"""A database of Redis that nothing else uses."""


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def user() -> str:
    """A user whom nobody else has."""
    return f"user-{uuid.uuid4()}"


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine is not taken for a Redis that is away."""
    monkeypatch.setattr("edge.buckets.PATIENCE", 5.0)


async def spend(buckets: SharedBuckets, user: str, calls: int) -> int:
    """How many of these calls go through."""
    return sum([await buckets.take(user, "m", 1) == 0 for _ in range(calls)])


async def test_two_edges_share_one_bucket(servers: Stack, user: str) -> None:
    """A user on two edges gets one burst, less at most what is left in the purses."""
    urls = servers.env()["REDIS_URLS"].split()
    async with (
        SharedBuckets(urls, rate=0.001, burst=100) as one,
        SharedBuckets(urls, rate=0.001, burst=100) as two,
    ):
        passed = await spend(one, user, 75) + await spend(two, user, 75)
    assert 90 <= passed <= 100


async def test_a_bucket_fills_with_time(servers: Stack, user: str) -> None:
    """The shared bucket gets its rate up to its burst, by Redis' time, which the test moves."""
    urls = servers.env()["REDIS_URLS"].split()
    async with SharedBuckets(urls, rate=0.02, burst=6) as buckets:
        node = buckets._nodes[buckets._map.node_of(user)]
        assert await spend(buckets, user, 10) == 6
        for seconds, there in ((100.0, 2), (150.0, 3), (36000.0, 6)):
            await node.hincrbyfloat(f"bucket:{user}:m", "at", -seconds)
            assert await spend(buckets, user, 10) == there
        assert 0 < await node.ttl(f"bucket:{user}:m") <= 6 / 0.02 + 1, (
            "a bucket that would be full is forgotten"
        )


async def test_tokens_in_a_purse_go_back(servers: Stack, user: str) -> None:
    """What an edge took by the handful and did not spend is good for a while, and then the bucket's again."""
    urls, clock = servers.env()["REDIS_URLS"].split(), Clock()
    async with SharedBuckets(urls, rate=0.001, burst=100, clock=clock) as buckets:
        await buckets.take(user, "m", 1)
        node = buckets._nodes[buckets._map.node_of(user)]
        asked = await node.hget(f"bucket:{user}:m", "tokens")
        assert await spend(buckets, user, 9) == 9
        assert await node.hget(f"bucket:{user}:m", "tokens") == asked, (
            "no round trip while the purse holds out"
        )
        clock.now += PURSE_SECONDS
        await buckets.take(user, "m", 1)
        assert float(await node.hget(f"bucket:{user}:m", "tokens") or 0) < float(asked or 0)


async def test_purses_are_bounded(servers: Stack, user: str) -> None:
    """However many users call, so many purses are kept; a forgotten one costs a round trip and no limit."""
    urls = servers.env()["REDIS_URLS"].split()
    async with SharedBuckets(urls, rate=0.001, burst=100, capacity=10) as buckets:
        for number in range(50):
            assert await buckets.take(f"{user}-{number}", "m", 1) == 0
        assert len(buckets._purses) == 10
        assert await spend(buckets, f"{user}-0", 100) <= 99


async def test_refusal_says_when(servers: Stack, user: str) -> None:
    """An empty bucket says after how many seconds there will be enough."""
    async with SharedBuckets(servers.env()["REDIS_URLS"].split(), rate=2, burst=5) as buckets:
        assert await buckets.take(user, "m", 5) == 0
        assert 1 < await buckets.take(user, "m", 4) <= 2, "less by what has come since"


async def test_without_redis_each_edge_has_its_own(user: str) -> None:
    """While Redis is away the limit holds on each edge alone, without asking at every call."""
    clock = Clock()
    async with SharedBuckets(["redis://127.0.0.1:1"], rate=1, burst=3, clock=clock) as buckets:
        assert await spend(buckets, user, 5) == 3
        clock.now += PURSE_SECONDS / 2
        assert await spend(buckets, user, 5) == 2


async def test_edges_tell_each_other_how_busy_they_are(servers: Stack) -> None:
    """The uncritical calls of another edge take room from ours, until it has long been silent."""
    urls = servers.env()["REDIS_URLS"].split()
    own_database = f"{urls[0]}/{DATABASE}"  # the edges of a running stack are not in it
    history = table.methods(table.OWN)["messages.history"]

    def edge(place: str) -> Admission:
        return Admission(buckets, redis_url=own_database, place=place, concurrent=100, calls_per_edge=10)

    async with (
        SharedBuckets(urls, rate=1, burst=1) as buckets,
        edge("here") as here,
        edge("there") as there,
        redis.asyncio.Redis.from_url(own_database) as node,
    ):
        try:
            for _ in range(12):
                there.begin("bob", history)
            await there._report()
            await here._report()
            for _ in range(4):  # of the sixteen that two edges have room for
                assert here.shed(history) is None
                here.begin("alice", history)
            refused = here.shed(history)
            assert refused is not None
            assert refused.reason == "SHED"
            assert here.shed(table.methods(table.OWN)["messages.send"]) is None

            await node.hset("fleet", "there", f"12:{time.time_ns() // 1_000_000 - STALE_MS - 1}")
            await here._report()
            assert here.shed(history) is None
            assert await node.hkeys("fleet") == [b"here"]
        finally:
            await node.delete("fleet")
