"""Buckets stay where they are, and spread users evenly over any number of nodes."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.mailbox.buckets import BUCKETS, BucketMap, bucket_of


def test_buckets_never_change() -> None:
    """Data lies where these numbers say."""
    assert [bucket_of(user) for user in ("ann", "bob", "user-1", "user-2")] == [56, 391, 405, 797]


@given(st.text())
def test_every_user_has_a_bucket(user_id: str) -> None:
    """Whatever the text, 0 to 1023."""
    assert 0 <= bucket_of(user_id) < BUCKETS


@pytest.mark.parametrize("nodes", [1, 2, 3, 8, 1024])
def test_even_ranges_are_even(nodes: int) -> None:
    """No node has more than one bucket more than another, and each has a single range."""
    even = BucketMap.even(nodes)
    counts = Counter(even.nodes)
    assert set(counts) == set(range(nodes))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert list(even.nodes) == sorted(even.nodes)


def test_numbered_users_spread_over_shards() -> None:
    """Ids that differ in a digit do not pile up: each of eight shards has within 10% of its share."""
    even = BucketMap.even(8)
    counts = Counter(even.node_of(f"user-{number}") for number in range(20_000))
    assert all(abs(count - 2500) < 250 for count in counts.values())


@pytest.mark.parametrize("nodes", [0, -1, 1025])
def test_impossible_counts_are_refused(nodes: int) -> None:
    """A wrong setting stops at the start."""
    with pytest.raises(ValueError, match="buckets"):
        BucketMap.even(nodes)


@pytest.mark.parametrize("nodes", [(), (0,) * 1023, (-1,) * 1024])
def test_incomplete_maps_are_refused(nodes: tuple[int, ...]) -> None:
    """Every bucket has a place."""
    with pytest.raises(ValueError, match="bucket map"):
        BucketMap(nodes=nodes)
