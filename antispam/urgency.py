"""Which messages are judged together, by the time that each has left; pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Messages that are judged together.

    Attributes:
        members: their places, in order.
        seconds: what the least of them has left; 0 where they must go on at once.
    """

    members: tuple[int, ...]
    seconds: float


def groups(left: Sequence[float], enough: float) -> list[Group]:
    """At most three groups: those with enough time, those with some, and those with none.

    Args:
        left: seconds that each message has left.
        enough: seconds that judging takes at most; more makes no difference.
    """
    sorts: dict[int, list[int]] = {2: [], 1: [], 0: []}
    for place, seconds in enumerate(left):
        sorts[(seconds > 0) + (seconds >= enough)].append(place)
    return [
        Group(members=tuple(members), seconds=max(min(left[place] for place in members), 0.0))
        for members in sorts.values()
        if members
    ]
