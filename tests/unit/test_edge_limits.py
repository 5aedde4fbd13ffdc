"""The token bucket, by time handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.limits import Limiter

KEY = ("alice", "messages.send")


def test_a_burst_and_then_the_rate() -> None:
    """The burst goes through, the next call is told when it will, and then it does."""
    limiter = Limiter(rate=2, burst=3)
    assert [limiter.take(KEY, 1, 0.0) for _ in range(3)] == [0, 0, 0]
    assert limiter.take(KEY, 1, 0.0) == 0.5
    assert limiter.take(KEY, 1, 0.4) == pytest.approx(0.1)
    assert limiter.take(KEY, 1, 0.5) == 0
    assert [limiter.take(KEY, 1, 1000.0) > 0 for _ in range(4)] == [False, False, False, True], (
        "no more is saved"
    )


def test_buckets_are_each_ones_own() -> None:
    """One user's, or one method's, empty bucket is not another's."""
    limiter = Limiter(rate=1, burst=1)
    assert limiter.take(KEY, 1, 0.0) == 0
    assert limiter.take(KEY, 1, 0.0) > 0
    assert limiter.take(("bob", "messages.send"), 1, 0.0) == 0
    assert limiter.take(("alice", "chats.list"), 1, 0.0) == 0


def test_what_is_free_is_free() -> None:
    """A call without a cost takes nothing and is never refused."""
    limiter = Limiter(rate=1, burst=1)
    assert [limiter.take(KEY, 0, 0.0) for _ in range(5)] == [0] * 5
    assert len(limiter) == 0


def test_memory_is_bounded() -> None:
    """Beyond the capacity the least recently used bucket is forgotten, in favour of letting through."""
    limiter = Limiter(rate=1, burst=1, capacity=2)
    for user in ("a", "b", "a", "c"):
        limiter.take((user, "m"), 1, 0.0)
    assert len(limiter) == 2
    assert limiter.take(("a", "m"), 1, 0.0) > 0, "a was used later than b"
    assert limiter.take(("b", "m"), 1, 0.0) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), max_size=60))
def test_never_more_than_burst_and_rate(steps: list[tuple[float, int]]) -> None:
    """Over any time span a key gets at most burst + rate * time, and each promised pause holds."""
    limiter, now, taken = Limiter(rate=2, burst=5), 0.0, 0
    for pause, cost in steps:
        now += pause
        wait = limiter.take(KEY, cost, now)
        if wait:
            now += wait + 1e-9
            assert limiter.take(KEY, cost, now) == 0
        taken += cost
        assert taken <= 5 + 2 * now + 1e-6


def test_to_ask_takes_nothing() -> None:
    """The wait for tokens can be asked for without taking or remembering anything."""
    limiter = Limiter(rate=2, burst=1)
    assert [limiter.wait(KEY, 1, 0.0) for _ in range(3)] == [0, 0, 0]
    assert len(limiter) == 0
    assert limiter.take(KEY, 1, 0.0) == 0
    assert [limiter.wait(KEY, 1, now) for now in (0.0, 0.25, 0.5)] == [0.5, 0.25, 0]
