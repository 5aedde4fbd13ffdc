"""Rejects the same long text, or nearly the same, when one sender sends it to many people.

Similarity is the resemblance of sets of shingles, estimated from sketches of their smallest hashes:
A. Broder, "On the resemblance and containment of documents", 1997.
"""

import re
import unicodedata
import zlib
from array import array
from dataclasses import dataclass, field
from typing import TypeAlias

from antispam.recent import Recent
from antispam.verdict import Candidate

SHINGLE = 4
"""Characters of a shingle."""

SKETCH = 64
"""Hashes of a sketch: the estimate is off by some 0.05."""

LOOK_AT = 512
"""Characters of a text that are looked at; bounds the time of a check."""

TEXTS = 4
"""Different texts remembered of one sender."""

Sketch: TypeAlias = "array[int]"

_NOT_WORDS = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """Only what a reader takes in: one case, one width, words with single spaces between them."""
    return _NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def sketch(text: str) -> Sketch:
    """The smallest hashes of a normalised text's shingles."""
    hashes = {zlib.crc32(text[n : n + SHINGLE].encode()) for n in range(max(1, len(text) - SHINGLE + 1))}
    return array("I", sorted(hashes)[:SKETCH])


def resemblance(one: Sketch, other: Sketch) -> float:
    """How much two texts have in common: 0 nothing, 1 all."""
    smallest = sorted({*one, *other})[:SKETCH]
    return len(set(one).intersection(other, smallest)) / len(smallest)


@dataclass(slots=True)
class _Text:
    sketch: Sketch
    receivers: dict[str, float] = field(default_factory=dict)
    """When each was last sent it, the longest ago first."""


class NearDuplicate:
    """Long texts of each sender, and who got them.

    Args:
        receivers: that many different people get nearly the same text: the last of them does not.
        length: characters that a normalised text must have to count; greetings are alike by nature.
        similarity: resemblance from which on two texts are nearly the same.
        window: seconds.
        senders: senders remembered; the state of one is bounded by TEXTS and `receivers`.
    """

    name = "near_duplicate"

    def __init__(
        self,
        *,
        receivers: int = 8,
        length: int = 40,
        similarity: float = 0.7,
        window: float = 60.0,
        senders: int = 5_000,
    ) -> None:
        self._receivers = receivers
        self._length = length
        self._similarity = similarity
        self._window = window
        self._senders: Recent[str, list[_Text]] = Recent(senders, list)

    def check(self, candidate: Candidate, now: float) -> str:
        """See Rule."""
        normal = normalise(candidate.text[:LOOK_AT])
        if len(normal) < self._length:
            return ""
        text = self._remember(candidate.sender_id, sketch(normal))
        text.receivers.pop(candidate.receiver_id, None)
        text.receivers[candidate.receiver_id] = now
        self._forget(text, now - self._window)
        return "NEAR_DUPLICATE" if len(text.receivers) >= self._receivers else ""

    def _remember(self, sender_id: str, wanted: Sketch) -> _Text:
        texts = self._senders.touch(sender_id)
        for text in texts:
            if resemblance(text.sketch, wanted) >= self._similarity:
                break
        else:
            text = _Text(wanted)
        texts[:] = [text, *(other for other in texts if other is not text)][:TEXTS]
        return text

    def _forget(self, text: _Text, since: float) -> None:
        for receiver in list(text.receivers):
            if text.receivers[receiver] > since and len(text.receivers) <= self._receivers:
                break
            del text.receivers[receiver]
