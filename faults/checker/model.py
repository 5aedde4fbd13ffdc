"""What all parts of the checker speak of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
History = Mapping[str, Sequence[Record]]
"""The records of a history by their kind; history.py says what they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A promise that was not kept.

    Attributes:
        promise: its number.
        what: `lost`, `doubled` …: what it counts as.
        detail: for the person who looks for the cause.
    """

    promise: int
    what: str
    detail: str


def good_calls(history: History, *methods: str) -> list[Record]:
    """Calls of these methods that were answered with a result."""
    return [call for call in history["call"] if call["method"] in methods and call["outcome"] == "ok"]
