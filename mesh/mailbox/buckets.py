"""Which node holds a user: a stable hash into 1,024 buckets, and a map from buckets to nodes. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Self

BUCKETS = 1024


def bucket_of(user_id: str) -> int:
    """The user's bucket, 0 to 1023: the same in every process and release, for data lies where it says."""
    digest = hashlib.blake2b(user_id.encode(), digest_size=2).digest()
    return int.from_bytes(digest) % BUCKETS


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketMap:
    """Where each bucket lives; shards of the database and nodes of the bus each have a map of their own.

    Args:
        nodes: for each of the 1,024 buckets, the index of its node.
    """

    nodes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.nodes) != BUCKETS or min(self.nodes) < 0:
            raise ValueError(f"a bucket map names a node for each of {BUCKETS} buckets, counted from 0")

    @classmethod
    def even(cls, count: int) -> Self:
        """Ranges of equal length over `count` nodes (1 to 1,024)."""
        if not 1 <= count <= BUCKETS:
            raise ValueError(f"{BUCKETS} buckets cannot be spread over {count} nodes")
        return cls(nodes=tuple(bucket * count // BUCKETS for bucket in range(BUCKETS)))

    def node_of(self, user_id: str) -> int:
        """The index of the node that holds the user."""
        return self.nodes[bucket_of(user_id)]
